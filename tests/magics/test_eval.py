"""``%llm_eval`` in a shell."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from IPython.core.completer import provisionalcompleter

from llm_magics import ScriptedEngine
from llm_magics.errors import InputError

ROWS = [("meow " * (n + 1), "cat") for n in range(10)] + [("woof " * (n + 1), "dog") for n in range(10)]


@pytest.fixture
def animals(open_notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A notebook with labelled rows and a model that says what it hears."""
    monkeypatch.setenv("LLM_MAGICS_CACHE", str(tmp_path / "cache"))
    notebook = open_notebook(LLMMagics={"embedding": "hashing-256"})
    engine = ScriptedEngine(lambda messages: "cat" if "meow" in messages[-1].content else "A dog!")
    notebook.session.add("fake", engine)
    notebook.names["rows"] = pd.DataFrame(ROWS, columns=["text", "label"])
    return notebook


def test_the_result_is_a_data_frame_in_the_variable_and_in_the_underscore(animals: Any) -> None:
    ran = animals.good("%llm_eval rows --methods llm,fewshot:2 -o result")
    assert isinstance(animals.names["result"], pd.DataFrame) and animals.names["_"] is ran.value
    assert ran.printed.count("llm         ▕") == 1 and "Out[" not in ran.printed
    assert animals.good("result.loc['llm', 'score']").value == 1.0


def test_evaluating_it_again_shows_the_card_again_and_a_part_of_it_a_plain_table(animals: Any) -> None:
    animals.good("%llm_eval rows --methods llm -o result;")
    assert "%llm_eval · 10 rows asked" in animals.good("result").printed
    again = animals.good("%llm_eval")
    assert again.value is animals.names["result"] and "%llm_eval · 10 rows asked" in again.printed
    assert "%llm_eval" not in animals.good("result[['score']]").printed


def test_a_notebook_gets_html_and_plain_text(animals: Any) -> None:
    published = animals.rich()
    animals.good("%llm_eval rows --methods llm")
    assert set(published[-1]["data"]) == {"text/html", "text/plain"}
    assert "<svg" in published[-1]["data"]["text/html"]


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_files_are_read_and_named_columns_used(animals: Any, name: str) -> None:
    frame = animals.names["rows"].rename(columns={"text": "heard", "label": "who"})
    frame.to_csv(name, index=False) if name.endswith("csv") else frame.to_json(name, orient="records", lines=True)
    value = animals.good(f"%llm_eval {name} --input heard --expected who --methods llm --rows 4 --seed 3").value
    assert value.report.source == name and value.report.rows == 4 and value.report.seed == 3


def test_options_reach_the_prompt(animals: Any) -> None:
    engine = animals.answers("cat", name="other")
    animals.names["shots"] = [("moo", "cow"), ("meow", "cat")]
    animals.good(
        "%llm_eval rows.head(3) --methods other+fewshot:2:first -e shots --choices cat,dog -i 'Who is it?' "
        "-s 'Be brief.' --max-new-tokens 5 --example-rows 0"
    )
    assert engine.prompts[0].messages[0].content == "Be brief."
    assert engine.prompts[0].messages[1].content == "Who is it?\n\nmoo"


def test_what_was_asked_is_kept_where_it_cannot_be_written(animals: Any) -> None:
    told = animals.run("%llm_eval rows --methods llm -o result --save nowhere/out.csv").complaint
    assert told == "InputError: there is no folder nowhere. Make it first, or give --save another file"
    assert "result" not in animals.names
    Path("out.html").mkdir()
    told = animals.run("%llm_eval rows --methods llm -o result --save out.html").complaint
    assert told == "InputError: out.html cannot be written: Is a directory. Give another file"
    assert animals.names["result"].report.complete and animals.names["_"] is animals.names["result"]


def test_an_interrupted_evaluation_says_how_many_rows_were_asked_and_is_saved(animals: Any) -> None:
    def answer(messages: Any) -> str:
        if len(engine.prompts) == 4:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
        return "cat"

    engine = ScriptedEngine(answer)
    animals.session.add("slow", engine)
    ran = animals.run("%llm_eval rows --methods slow --save out.csv -o result")
    done = len({outcome.row for outcome in animals.names["result"].report.outcomes})
    assert 3 <= done <= 5 and f"%llm_eval · stopped · {done} of 10 rows asked" in ran.printed
    assert len(pd.read_csv("out.csv")) == done


def test_rows_and_card_are_written_to_files(animals: Any) -> None:
    animals.good("%llm_eval rows --methods llm --save out.csv")
    assert list(pd.read_csv("out.csv").columns[:4]) == ["row", "method", "input", "expected"]
    animals.good("%llm_eval rows --methods llm --save out.html")
    assert Path("out.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("%llm_eval", "nothing was evaluated yet. Type %llm_eval DATA --expected COLUMN"),
        ("%llm_eval rows --methods fewsho:4", "there is no method 'fewsho' in fewsho:4. Did you mean fewshot?"),
        ("%llm_eval rows --input txt", "rows has no column txt. Did you mean text?"),
        ("%llm_eval rows --metric acc", "--metric cannot be 'acc'. It takes exact, contains, regex"),
        ("%llm_eval row --methods llm", "there is no variable or file row. Did you mean rows?"),
        ("%llm_eval rows.heat(3)", "AttributeError"),
        ("%llm_eval rows --methods rag", "there is no knowledge base default"),
        ("%llm_eval rows --methods llm --save out.doc", "--save is out.doc"),
        ("%llm_eval rows --method llm", "has no option --method. Did you mean --methods?"),
        ("%llm_eval one", "one has one column, a. Give two: what is asked, and what is expected"),
        ("%llm_eval rows.head(0)", "rows.head(0) holds no rows"),
        ("%llm_eval rows --methods llm,tuned", "llm and tuned are the same here: both ask tuned. Type -m fake for"),
        ("%%llm_compare --methods llm,tuned\nWho?", "llm and tuned are the same here: both ask tuned. Type -m fake"),
    ],
)
def test_a_mistake_is_one_line(animals: Any, line: str, complaint: str) -> None:
    if "tuned" in line:
        animals.answers("cat", name="tuned")
    animals.names["one"] = pd.DataFrame({"a": ["x", "y"]})
    assert complaint in animals.run(line).complaint


def test_an_interrupt_keeps_what_is_done_in_the_variable(animals: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import signal
    import threading

    animals.session.add("slow", ScriptedEngine(["cat"], tokens_per_second=10))
    threading.Timer(1.0, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)).start()  # type: ignore[arg-type]
    ran = animals.run("%llm_eval rows --methods slow,slow+fewshot:2 -o part")
    assert isinstance(ran.error, KeyboardInterrupt) and "what is done is in part" in str(ran.error)
    assert 0 < len(animals.names["part"].outcomes) < 40


def test_tab_completes_methods_and_knowledge_bases(animals: Any) -> None:
    def completed(line: str) -> list[str]:
        with provisionalcompleter():
            return [found.text for found in animals.shell.Completer.completions(line, len(line))]

    assert "fewshot:4" in completed("%llm_eval rows --methods few")
    assert "llm,rag" in completed("%llm_eval rows --methods llm,ra")
    assert "fake" in completed("%llm_eval rows --methods f")
    assert "regex" in completed("%llm_eval rows --metric re")


def test_hostile_rows_reach_no_page_as_tags(animals: Any) -> None:
    published = animals.rich()
    animals.names["bad"] = [(f"<img src=x onerror=alert({n})> meow", "<script>alert(1)</script>") for n in range(8)]
    animals.good("%llm_eval bad --methods llm --metric exact --example-rows 0")
    page = published[-1]["data"]["text/html"]
    assert "<img" not in page and "<script" not in page and "&lt;img src=x" in page
    with pytest.raises(InputError):
        raise animals.run("%llm_eval bad --metric choice").error
