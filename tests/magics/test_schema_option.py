"""``--schema``: what a person gets back, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_magics import ScriptedEngine
from llm_magics.errors import AnswerFormatError
from llm_magics.values.messages import Message

PERSON = """
from pydantic import BaseModel, Field, field_validator
class Person(BaseModel):
    name: str = Field(max_length=20)
    age: int
    @field_validator("age")
    def no_child(cls, value):
        if value < 18:
            raise ValueError("too young")
        return value
"""
ANNA = '{"name": "Anna", "age": 31}'


def test_an_answer_becomes_an_instance_of_the_class(notebook) -> None:
    notebook.good(PERSON)
    notebook.answers(ANNA)
    notebook.good("%%llm --schema Person -o person\nWho is Anna?")
    person = notebook.names["person"]
    assert person == ANNA and person.output_format == "json"
    assert isinstance(person.data, notebook.names["Person"]) and person.data.age == 31
    assert person.options.temperature == 0 and person.options.repetition_penalty == 1
    schema = json.loads(person.options.schema)
    assert schema["properties"]["age"] == {"title": "Age", "type": "integer"}
    assert schema["additionalProperties"] is False, "a small model would add fields without an end"


def test_the_card_shows_the_object_as_json(notebook) -> None:
    notebook.good(PERSON)
    notebook.answers(ANNA)
    shown = notebook.rich()
    notebook.good("%%llm --schema Person\nWho is Anna?")
    assert "Anna" in shown[-1]["data"]["text/html"] and '"age": 31' in shown[-1]["data"]["text/plain"]


def test_a_dictionary_and_a_file_give_plain_values(notebook) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "additionalProperties": True}
    notebook.names["wanted"] = schema
    Path("person.json").write_text(json.dumps(schema), encoding="utf-8")
    notebook.answers(ANNA)
    for source in ("wanted", "person.json"):
        notebook.good(f"%llm --schema {source} -o person Who is Anna?")
        assert notebook.names["person"].data == {"name": "Anna", "age": 31}


@pytest.mark.parametrize(
    ("answer", "options", "said"),
    [
        ('{"name": "Anna", "age"', "--max-new-tokens 2", "cut off before it was a whole Person"),
        ('{"name": "Anna", "age": 3}', "", "too young"),
        ('{"name": "Anna"}', "", "'age' is a required property"),
        ("Anna", "", "the answer is no Person"),
    ],
)
def test_an_answer_that_does_not_fit_is_an_error_that_holds_it(notebook, answer: str, options: str, said: str) -> None:
    notebook.good(PERSON)
    notebook.answers(answer)
    ran = notebook.run(f"%%llm --schema Person {options} -o person\nWho is Anna?")
    assert isinstance(ran.error, AnswerFormatError)
    assert said in ran.complaint
    assert notebook.names["person"].text and answer.startswith(notebook.names["person"].text)
    assert notebook.names["person"].data is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--schema Persn", "Did you mean Person?"),
        ("--schema nothing.json", "nothing.json cannot be read as a schema"),
        ("--schema number", "number is a int and no schema"),
        ("--schema int", "int is the class int and no schema"),
        ("--schema wrong", "'strin' is not valid"),
        ("--schema Person --format text", "Leave --format out"),
        ("--schema Person --stop x", "--stop would end the answer before it is whole"),
    ],
)
def test_what_is_no_schema_or_does_not_go_with_one_is_one_line(notebook, line: str, said: str) -> None:
    notebook.good(PERSON)
    notebook.names.update(number=3, wrong={"type": "strin"})
    engine = notebook.answers(ANNA)
    assert said in notebook.run(f"%%llm {line}\nWho is Anna?").complaint
    assert not engine.prompts


def test_choices_and_votes_do_not_go_with_a_schema(notebook) -> None:
    notebook.good(PERSON)
    notebook.answers(ANNA)
    cell = "%%fewshot --schema Person --choices a,b\nx => a\ny => b\nz"
    assert "--schema changes nothing with --choices" in notebook.run(cell).complaint
    assert "--votes" in notebook.run("%%cot --votes 3 --schema Person\nWho is Anna?").complaint


def test_cot_reasons_freely_and_holds_the_final_answer_to_the_schema(notebook) -> None:
    notebook.good(PERSON)
    engine = ScriptedEngine(lambda turns: "Let me think." if len(turns) == 1 else ANNA)
    notebook.session.add("fake", engine)
    notebook.good("%%cot --schema Person -o person\nWho is Anna?")
    person = notebook.names["person"]
    assert person.reasoning == "Let me think." and person.data.name == "Anna" and person.parsed
    assert engine.prompts[1].messages[1] == Message("assistant", "Let me think.")
    assert "JSON" in engine.prompts[1].messages[2].content


def test_a_dry_run_shows_the_schema(notebook) -> None:
    notebook.good(PERSON)
    engine = notebook.answers(ANNA)
    printed = notebook.good("%%llm --schema Person --dry-run\nWho is Anna?").printed
    assert "the answer follows a JSON schema of" in printed and '{"properties": {"name"' in printed
    assert not engine.prompts


@pytest.mark.model
def test_a_small_model_fills_the_class_from_a_sentence(smollm2) -> None:
    smollm2.good(PERSON)
    smollm2.good("%%llm --schema Person -o person\nAnna is 31 years old. Describe her as JSON.")
    person = smollm2.names["person"].data
    assert (person.name, person.age) == ("Anna", 31)
