"""``--over``: one answer a row of a table, as a person types it."""

from __future__ import annotations

import dataclasses
import gc
import os
import signal
import threading
import time

import pandas as pd
import psutil
import pytest

from llm_magics import ScriptedEngine
from llm_magics.errors import ContextLengthError, Interrupted
from llm_magics.values.asking import AskRequest

TEXTS = ["The food was good.", "The waiter ignored us.", "It was okay => fine\n---\nreally"]


@pytest.fixture
def reviews(notebook):
    """A notebook with a table of three reviews, and a model that says what it was asked last, in capitals."""
    notebook.names["df"] = pd.DataFrame({"text": TEXTS, "a b": [1, 2, 3]}, index=["x", "y", "z"])
    notebook.engine = ScriptedEngine(lambda turns: turns[-1].content.upper())
    notebook.session.add("fake", notebook.engine)
    return notebook


def asked(notebook) -> list[str]:
    return [prompt.messages[-1].content for prompt in notebook.engine.prompts]


def test_every_row_gets_an_answer_beside_its_own_columns(reviews) -> None:
    ran = reviews.good("%%llm --over df -o result\nRow {{row['a b']}}: {{row.text}}")
    result = reviews.names["result"]
    assert ran.value is None
    assert list(result.columns) == ["text", "a b", "answer", "error", "tokens_in", "tokens_out", "seconds"]
    assert list(result.index) == ["x", "y", "z"] and list(result.text) == TEXTS
    assert list(result.answer) == [f"ROW {n}: {text.upper()}" for n, text in enumerate(TEXTS, start=1)]
    assert result.error.isna().all() and (result.tokens_in > 0).all() and (result.tokens_out > 0).all()
    assert "result is a DataFrame of 3 rows, 7 columns" in ran.printed and "3 of 3 rows" in ran.printed


def test_a_model_that_took_the_place_of_another_of_its_name_is_asked_anew(reviews) -> None:
    class Precise(ScriptedEngine):
        def info(self):
            return dataclasses.replace(super().info(), dtype="bfloat16")

    for engine, kept in ((ScriptedEngine(["old"]), 0), (ScriptedEngine(["same"]), 3), (Precise(["new"]), 0)):
        reviews.session.add("fake", engine)
        reviews.good("%llm --over df --column text -o result")
        assert len(engine.prompts) == 3 - kept
    assert list(reviews.names["result"].answer) == ["new"] * 3


def test_a_column_is_asked_below_the_cells_text(reviews) -> None:
    reviews.good("%%llm --over df --column text -o result\nSummarise:")
    assert asked(reviews)[0] == f"Summarise:\n\n{TEXTS[0]}"
    reviews.good("%llm --over df --column text -o result")
    assert asked(reviews)[3] == TEXTS[0]


def test_a_row_of_fewshot_cannot_be_taken_for_an_example(reviews) -> None:
    cell = "Classify.\ngreat => good\nawful => bad"
    for ending in ("", "\n{{row.text}}"):
        column = "" if ending else "--column text"
        reviews.engine.prompts.clear()
        reviews.good(f"%%fewshot --over df {column} -o result{len(column)}\n{cell}{ending}")
        assert asked(reviews) == [f"Classify.\n\n{text}" for text in TEXTS]
        assert all(len(prompt.messages) == 5 for prompt in reviews.engine.prompts)


def test_braces_in_a_table_are_never_run(reviews) -> None:
    reviews.names["df"] = pd.DataFrame({"text": ["{{row.__class__}} {{1/0}}", "\ue0020\ue003"]})
    reviews.names["also"] = "{{row.text}}"
    reviews.good("%%llm --over df -o result\n{{also}} {{row.text}}")
    assert asked(reviews) == ["{{row.text}} {{row.__class__}} {{1/0}}", "{{row.text}} \ue0020\ue003"]


def test_cot_and_rag_have_columns_of_their_own(reviews) -> None:
    reviews.session.add("fake", ScriptedEngine(lambda turns: "1. Think.\nAnswer: 4"))
    reviews.good("%%cot --over df --column text -o result\nHow many?")
    result = reviews.names["result"]
    assert list(result.answer) == ["4"] * 3 and list(result.reasoning) == ["1. Think."] * 3
    reviews.good("%%cot --votes 2 --over df --column text -o result\nHow many?")
    assert list(reviews.names["result"].answer) == ["4"] * 3


def test_rag_tells_the_sources_of_each_answer(reviews) -> None:
    for package in ("faiss", "bm25s", "langchain_text_splitters"):
        pytest.importorskip(package, reason="the extra rag is not installed")
    reviews.session.settings.embedding = "hashing-256"
    reviews.good("%%rag_add\nThe food of the inn is good, and its waiter is slow.")
    reviews.good("%rag --over df --column text -o result")
    result = reviews.names["result"]
    assert len(result) == 3 and all(isinstance(sources, list) for sources in result.sources)
    assert result.sources["x"], "the first row has words of the passage"


def test_a_schema_gives_a_column_a_field(reviews) -> None:
    reviews.good("from pydantic import BaseModel\nclass Mark(BaseModel):\n    stars: int\n    why: str")
    reviews.session.add("fake", ScriptedEngine(['{"stars": 3, "why": "good"}', '{"stars": 1, "why": "rude"}', "no"]))
    reviews.good("%llm --over df --column text --schema Mark -o result")
    result = reviews.names["result"]
    assert list(result.stars[:2]) == [3, 1] and list(result.why[:2]) == ["good", "rude"]
    assert result.error.notna().tolist() == [False, False, True]
    assert result.answer["z"] == "no", "what the model said is kept beside the error"


def test_a_row_that_fails_is_a_row_with_an_error(reviews) -> None:
    reviews.names["df"] = pd.DataFrame({"text": ["good", None, "  ", "word " * 9000, "bad"]})
    ran = reviews.good("%%llm --over df --column text -o result\nSay:")
    result = reviews.names["result"]
    assert result.answer.notna().tolist() == [True, False, False, False, True]
    assert "empty in this row" in result.error[1] and "too many" in result.error[3]
    assert "3 failed" in ran.printed


def test_a_mistake_of_the_cell_makes_no_table(reviews) -> None:
    reviews.names["result"] = "mine"
    assert "no column txt" in reviews.run("%%llm --over df -o result\n{{row.txt}}").complaint
    assert "ZeroDivisionError" in reviews.run("%%llm --over df -o result\n{{row.text + 1/0}}").complaint
    assert reviews.names["result"] == "mine" and not asked(reviews)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--over df -o result", "every row would be asked the same"),
        ("--over df --column txt -o result", "Did you mean text?"),
        ("--over df --column text", "Type --over df -o result"),
        ("--over dff --column text -o result", "Did you mean df?"),
        ("--over number --column text -o result", "number is a int and no table"),
        ("--over empty --column text -o result", "empty has no rows"),
        ("--over answered --column text -o result", "Rename it"),
        ("--column text", "Type --over with a DataFrame"),
        ("--over df --column text -o result -m nothing", "no model nothing is loaded"),
        ("--over df --column text -o result -s {{row.text}}", "row is a row of --over, in the cell alone"),
    ],
)
def test_what_does_not_go_together_is_one_line(reviews, line: str, said: str) -> None:
    answered = pd.DataFrame({"text": [""], "answer": ""})
    reviews.names.update(number=3, empty=pd.DataFrame({"text": []}), answered=answered)
    assert said in reviews.run(f"%%llm {line}\nHello").complaint
    assert not asked(reviews)


def test_a_dry_run_shows_the_first_rows_prompt(reviews) -> None:
    printed = reviews.good("%%llm --over df --column text --dry-run\nSay:").printed
    assert "the prompt of the first of 3 rows" in printed and TEXTS[0] in printed
    assert not asked(reviews)


def test_the_history_has_one_entry_a_table_and_the_conversation_none(reviews) -> None:
    reviews.good("%%llm --over df --column text -o result\nSay:")
    (entry,) = reviews.session.history.find()
    assert entry.question == "Say:" and entry.answer == "3 of 3 rows answered, in result" and not entry.chat
    reviews.good("%llm Hello")
    assert len(reviews.engine.prompts[-1].messages) == 1
    reviews.good("%%llm --over df --column text -o result --no-history\nOther:")
    assert len(reviews.session.history) == 2


def slow(notebook, rows: int) -> None:
    notebook.names["df"] = pd.DataFrame({"text": [f"text {number}" for number in range(rows)]})
    notebook.engine = ScriptedEngine(lambda turns: turns[-1].content.upper(), tokens_per_second=100)
    notebook.session.add("fake", notebook.engine)


def interrupt_after(seconds: float) -> None:
    threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGINT)).start()


def test_an_interrupt_keeps_the_finished_rows_and_the_same_cell_does_the_rest(notebook) -> None:
    slow(notebook, 40)
    cell = "%%llm --over df --column text -o result\nSay:"
    begin = time.monotonic()
    interrupt_after(0.6)
    ran = notebook.run(cell)
    assert isinstance(ran.error, Interrupted) and time.monotonic() - begin < 5
    done = len(notebook.names["result"])
    assert 0 < done < 40
    assert f"stopped after {done} of 40 rows; they are in result" in str(ran.error)
    before = len(notebook.engine.prompts)
    ran = notebook.good(cell)
    assert f"{done} of 40 rows were there already" in ran.printed
    assert len(notebook.names["result"]) == 40
    # The one that was cut off is asked again; no other is.
    assert len(notebook.engine.prompts) - before == 40 - done
    assert list(notebook.names["result"].answer) == [f"SAY:\n\nTEXT {number}" for number in range(40)]


def test_an_interrupted_second_run_forgets_nothing_of_the_first(notebook) -> None:
    slow(notebook, 12)
    cell = "%%llm --over df --column text -o result\nSay:"
    notebook.good(cell)
    notebook.names["df"] = pd.concat([pd.DataFrame({"text": [f"new {n}" for n in range(30)]}), notebook.names["df"]])
    interrupt_after(0.4)
    assert isinstance(notebook.run(cell).error, Interrupted)
    before = len(notebook.engine.prompts)
    notebook.good(cell)
    assert len(notebook.names["result"]) == 42
    assert not any("text" in prompt.text for prompt in notebook.engine.prompts[before:])


@pytest.mark.parametrize("change", ["-t 0.5", "--seed 3", "-s Short.", "--max-new-tokens 7", "-m other"])
def test_another_option_asks_every_row_again(reviews, change: str) -> None:
    other = ScriptedEngine(["hello"])
    reviews.good("%%llm --over df --column text -o result\nSay:")
    reviews.session.add("other", other)
    reviews.session.add("fake", reviews.engine)
    reviews.engine.prompts.clear()
    ran = reviews.good(f"%%llm --over df --column text {change} -o result\nSay:")
    assert "already" not in ran.printed and len(asked(reviews)) + len(other.prompts) == 3


def test_rows_that_failed_and_results_that_are_gone_are_asked_again(reviews) -> None:
    reviews.names["df"] = pd.DataFrame({"text": ["good", "word " * 9000]})
    reviews.good("%%llm --over df --column text -o result\nSay:")
    assert "1 of 2 rows were there already" in reviews.good("%%llm --over df --column text -o result\nSay:").printed
    reviews.names["result"] = reviews.names["result"].copy()  # another object, which may have been changed
    assert "already" not in reviews.good("%%llm --over df --column text -o result\nSay:").printed


def test_a_bug_in_the_middle_loses_no_row(reviews) -> None:
    def reply(turns):
        if "ignored" in turns[-1].content:
            raise ZeroDivisionError("a bug")
        return "fine"

    reviews.session.add("fake", ScriptedEngine(reply))
    ran = reviews.run("%%llm --over df --column text -o result\nSay:")
    assert isinstance(ran.error, ZeroDivisionError)
    assert list(reviews.names["result"].answer) == ["fine"]


def test_a_hundred_thousand_rows_stay_within_bounded_memory(notebook) -> None:
    rows = 100_000
    text = "The waiter was friendly, and the food came fast and hot. " * 8
    frame = pd.DataFrame({"number": range(rows)})
    alive: list[int] = []

    class Counting(ScriptedEngine):
        def stream_batch(self, prompts, options, stop):
            alive.append(len(prompts))
            for number, found in super().stream_batch(prompts, options, stop):
                self.prompts.clear()
                yield number, found

    notebook.session.add("fake", Counting(lambda turns: "positive"))
    session = notebook.session
    process = psutil.Process()
    gc.collect()
    before = highest = process.memory_info().rss
    table = session.over(frame, lambda value, request: session.ask(f"{text}{value}", request), method="llm",
                         column="number", request=AskRequest(temperature=0))  # fmt: skip
    progress = None
    for progress in table:
        if progress.done % 1000 == 0:
            highest = max(highest, process.memory_info().rss)
    result = table.frame
    grown = max(highest, process.memory_info().rss) - before
    assert progress is not None and progress.done == rows == len(result) and set(result.answer) == {"positive"}
    assert max(alive) <= 256
    assert grown < 120 * 2**20, f"{grown / 2**20:.0f} MiB; the prompts alone would be hundreds"


def test_a_prompt_too_long_for_the_model_is_the_rows_error(reviews) -> None:
    reviews.names["df"] = pd.DataFrame({"text": ["word " * 9000]})
    assert isinstance(reviews.run("%%llm --over df --column text -o result\nSay:").error, ContextLengthError)


def test_the_card_has_the_first_rows_and_the_figures(reviews) -> None:
    shown = reviews.rich()
    reviews.names["df"] = pd.DataFrame({"text": ["<b>x</b>"] + ["short"] * 30})
    reviews.good("%%llm --over df --column text -o result\nSay:")
    page = shown[-1]["data"]["text/html"]
    assert "&lt;b&gt;x" in page and "<b>x" not in page
    assert page.count("<tr>") == 9
    assert "result is a DataFrame of" in page and "rows/s" in page


@pytest.fixture(params=["transformers", "llamacpp"])
def real(request, notebook):
    """A notebook with the real SmolLM2, on each engine, and a table of three reviews."""
    if request.param == "transformers":
        notebook.session.add("smollm2", request.getfixturevalue("smollm2_engine"))
    else:
        pytest.importorskip("xllamacpp", reason="the extra llamacpp is not installed")
        notebook.good("%llm_load smollm2 --engine llamacpp;")
    notebook.names["df"] = pd.DataFrame(
        {"text": ["I loved every minute.", "It broke at once.", "What a wonderful day!"]}
    )
    return notebook


SHOTS = "Is the text positive or negative?\nThe cake was lovely. => positive\nThe train was late and dirty. => negative"


@pytest.mark.model
def test_choices_get_a_column_of_probabilities_each(real) -> None:
    ran = real.good(f"%%fewshot --over df --column text --choices positive,negative -o result\n{SHOTS}")
    result = real.names["result"]
    assert set(result.answer) <= {"positive", "negative"}
    assert (result.p_positive + result.p_negative).tolist() == pytest.approx([1, 1, 1])
    assert list(result.answer) == [
        "positive" if row.p_positive >= row.p_negative else "negative" for row in result.itertuples()
    ]
    assert "p_positive" in ran.printed
    for text, found in zip(result.text, result.p_positive, strict=True):
        real.good(f"%%fewshot --choices positive,negative -o one\n{SHOTS}\n{text}")
        assert real.names["one"].probabilities["positive"] == pytest.approx(found, abs=0.02)


@pytest.mark.model
def test_written_answers_of_a_table_are_those_of_single_cells(real) -> None:
    real.good(f"%%fewshot --over df --max-new-tokens 5 -o result\n{SHOTS}\n{{{{row.text}}}}")
    for text, answer in zip(real.names["result"].text, real.names["result"].answer, strict=True):
        real.good(f"%%fewshot --max-new-tokens 5 -o one\n{SHOTS}\n{text}")
        assert real.names["one"].text == answer
