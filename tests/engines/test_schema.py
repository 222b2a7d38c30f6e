"""Answers that are held to a JSON schema, by both engines with the real SmolLM2."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from llm_magics.engines.constrained import grammar
from llm_magics.errors import InputError
from llm_magics.values.asking import GenerationOptions
from llm_magics.values.messages import Message

pytest.importorskip("llguidance", reason="the extra schema is not installed")

SCHEMAS: dict[str, dict[str, Any]] = {
    "object": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    "choice": {"enum": ["positive", "negative", "neutral"]},
    "list": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3},
    "nested": {
        "type": "object",
        "properties": {"place": {"$ref": "#/$defs/place"}},
        "required": ["place"],
        "additionalProperties": False,
        "$defs": {
            "place": {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 12}, "open": {"type": "boolean"}},
                "required": ["city", "open"],
                "additionalProperties": False,
            }
        },
    },
}
QUESTIONS = ("Anna is 31 years old and lives in Bern. Describe her.", "Write a poem about the sea.")


@pytest.fixture(params=["smollm2", "smollm2_in_llamacpp"])
def engine(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def answered(engine: Any, question: str, schema: object, **options: Any) -> tuple[str, str | None]:
    prompt = engine.render([Message("user", question)])
    options = {"temperature": 0.0, "repetition_penalty": 1.0, "max_new_tokens": 60, **options}
    chunks = list(engine.stream(prompt, GenerationOptions(schema=json.dumps(schema), **options), threading.Event()))
    return "".join(chunk.text for chunk in chunks), chunks[-1].stop_reason


@pytest.mark.model
@pytest.mark.parametrize("name", SCHEMAS)
def test_a_greedy_answer_always_validates(engine: Any, name: str) -> None:
    for question in QUESTIONS:
        text, reason = answered(engine, question, SCHEMAS[name])
        assert reason == "end", text
        Draft202012Validator(SCHEMAS[name]).validate(json.loads(text))
        assert "\n" not in text, "white space pads it"


@pytest.mark.model
def test_a_sampled_answer_validates_too_and_its_seed_repeats_it(engine: Any) -> None:
    hot = {"temperature": 1.5, "seed": 7}
    text, _ = answered(engine, QUESTIONS[1], SCHEMAS["object"], **hot)
    Draft202012Validator(SCHEMAS["object"]).validate(json.loads(text))
    assert answered(engine, QUESTIONS[1], SCHEMAS["object"], **hot)[0] == text


@pytest.mark.model
def test_the_next_answer_is_free_again(engine: Any) -> None:
    answered(engine, QUESTIONS[0], SCHEMAS["choice"])
    prompt = engine.render([Message("user", QUESTIONS[0])])
    options = GenerationOptions(temperature=0.0, max_new_tokens=10)
    text = "".join(chunk.text for chunk in engine.stream(prompt, options, threading.Event()))
    assert not text.startswith(("{", '"'))


@pytest.mark.model
def test_a_schema_that_no_decoder_can_hold_is_refused_before_a_token(engine: Any) -> None:
    with pytest.raises(InputError, match="uniqueItems"):
        answered(engine, QUESTIONS[0], {"type": "array", "uniqueItems": True})


@pytest.mark.parametrize("schema", [{"not": {"type": "string"}}, {"type": "string", "pattern": "(["}])
def test_what_a_grammar_cannot_say_is_one_line(schema: object) -> None:
    with pytest.raises(InputError) as caught:
        grammar(json.dumps(schema))
    assert "\n" not in str(caught.value) and caught.value.hint
