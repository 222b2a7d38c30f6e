"""The conversation of a notebook, and the log of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llm_magics import ScriptedEngine, errors


def turns(engine: Any) -> list[str]:
    """What the last prompt held, oldest first."""
    return [message.content for message in engine.prompts[-1].messages]


def test_a_question_is_sent_with_the_exchanges_before_it(notebook: Any) -> None:
    engine = notebook.answers("A1", "A2", "A3")
    for question in ("Q1", "Q2", "Q3"):
        notebook.good(f"%llm {question}")
    assert turns(engine) == ["Q1", "A1", "Q2", "A2", "Q3"]


def test_a_cell_that_runs_again_replaces_its_exchange_and_what_followed_it(notebook: Any) -> None:
    engine = notebook.answers("A1", "A2", "A3", "A2b", "A4")
    for question, cell in [("Q1", "a"), ("Q2", "b"), ("Q3", "c")]:
        notebook.good(f"%llm {question}", cell_id=cell)
    notebook.good("%llm Q2 again", cell_id="b")
    assert turns(engine) == ["Q1", "A1", "Q2 again"]
    notebook.good("%llm Q4", cell_id="d")
    assert turns(engine) == ["Q1", "A1", "Q2 again", "A2b", "Q4"]
    assert [(e.question, e.replaced) for e in notebook.session.history.find()] == [
        ("Q1", False), ("Q2", True), ("Q3", True), ("Q2 again", False), ("Q4", False),
    ]  # fmt: skip
    assert notebook.good("%llm_history").printed.count("(replaced)") == 2


def test_two_questions_of_one_cell_are_two_exchanges_also_when_it_runs_again(notebook: Any) -> None:
    engine = notebook.answers("A1", "A2", "A1b", "A2b")
    cell = "%llm Q1\n%llm Q2"
    notebook.good(cell, cell_id="a")
    assert turns(engine) == ["Q1", "A1", "Q2"]
    notebook.good(cell, cell_id="a")
    assert turns(engine) == ["Q1", "A1b", "Q2"]
    assert [e.replaced for e in notebook.session.history.find()] == [True, True, False, False]


def test_a_run_that_fails_replaces_nothing(notebook: Any) -> None:
    engine = notebook.answers("A1", "A2")
    notebook.good("%llm Q1", cell_id="a")
    assert isinstance(notebook.run("%llm {{nowhere}}", cell_id="a").error, errors.InputError)
    notebook.good("%llm --dry-run Q1", cell_id="a")
    notebook.good("%llm Q2", cell_id="b")
    assert turns(engine) == ["Q1", "A1", "Q2"]


def test_without_cell_identities_nothing_is_replaced(notebook: Any) -> None:
    engine = notebook.answers("A1", "A2")
    notebook.good("%llm Q1")
    notebook.good("%llm Q1")
    assert turns(engine) == ["Q1", "A1", "Q1"]


def test_a_model_that_is_asked_what_another_was_asked_does_not_read_its_answer(notebook: Any) -> None:
    notebook.answers("A1", "A2", "A3", "A4")
    other = ScriptedEngine(["B2", "B3"])
    notebook.session.add("other", other)
    notebook.good("%llm -m other Q0")
    base = notebook.session.models[0].name
    notebook.good(f"%llm -m {base} Q1")
    notebook.good("%llm -m other Q1")
    assert turns(other) == ["Q0", "B2", "Q1"]
    notebook.good("%llm -m other Q2")
    assert turns(other) == ["Q0", "B2", "Q1", "A1", "Q1", "B3", "Q2"]


def test_no_history_neither_sends_nor_keeps(notebook: Any) -> None:
    engine = notebook.answers("A1", "A2", "A3")
    notebook.good("%llm Q1")
    notebook.good("%llm --no-history Q2")
    assert turns(engine) == ["Q2"]
    notebook.good("%llm Q3")
    assert turns(engine) == ["Q1", "A1", "Q3"] and len(notebook.session.history) == 2


def test_few_shot_and_reasoning_are_logged_and_no_part_of_the_conversation(notebook: Any) -> None:
    engine = notebook.answers("A1", "Answer: 2", "A3")
    notebook.good("%%fewshot\na => b\nc")
    notebook.good("%cot Q2")
    notebook.good("%llm Q3")
    assert turns(engine) == ["Q3"] and len(notebook.session.history) == 3
    printed = notebook.good("%llm_history").printed
    assert "%%fewshot" in printed and "%%cot" in printed and "3 of 3 exchanges" in printed


@pytest.mark.parametrize(("limit", "kept"), [(2, ["Q2", "A", "Q3", "A"]), (1, ["Q3", "A"]), (0, [])])
def test_history_turns_is_how_many_exchanges_are_sent(notebook: Any, limit: int, kept: list[str]) -> None:
    engine = notebook.answers("A")
    notebook.good(f"%llm_config history_turns={limit}")
    for question in ("Q1", "Q2", "Q3", "Q4"):
        notebook.good(f"%llm {question}")
    assert turns(engine) == [*kept, "Q4"]


def test_earlier_turns_are_sent_exactly_as_they_were_the_first_time(notebook: Any) -> None:
    engine = notebook.answers("A")
    notebook.good("%%llm\n\nQ1\n")
    notebook.good("%%llm\nQ2\n")
    assert engine.prompts[1].text.startswith(engine.prompts[0].text)


def test_the_oldest_exchanges_are_left_out_where_the_context_is_short_and_it_is_said(notebook: Any) -> None:
    engine = notebook.answers("A " * 10, context=36)
    for question in ("Q1", "Q2"):
        notebook.good(f"%llm {question}")
    ran = notebook.good("%llm Q3")
    assert [turn.strip() for turn in turns(engine)] == ["Q2", ("A " * 10).strip(), "Q3"]
    assert "1 earlier exchange left out: fake reads 36 tokens" in ran.printed


def test_the_log_is_shown_searched_and_cut(notebook: Any) -> None:
    assert "nothing has been asked yet" in notebook.good("%llm_history").printed
    notebook.answers("the Wool of llamas", "hay", "grass")
    for question in ("coat", "food", "more\nfood"):
        notebook.good(f"%%llm\n{question}")
    printed = notebook.good("%llm_history").printed
    assert [printed.index(text) for text in ("coat", "food", "more food")] == sorted(
        printed.index(text) for text in ("coat", "food", "more food")
    )
    assert "2 of 3 exchanges" in notebook.good("%llm_history FOOD").printed
    assert "1 of 3 exchanges" in notebook.good("%llm_history wool of").printed
    assert "0 of 3 exchanges" in notebook.good("%llm_history nothing").printed
    last = notebook.good("%llm_history -n 1").printed
    assert "grass" in last and "hay" not in last


def test_the_log_fits_a_narrow_page_and_loses_no_word(notebook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    notebook.answers("It is a domesticated animal from South America, say I")
    notebook.good("%%llm\nWhat is a llama, and where do people keep it?")
    lines = notebook.good("%llm_history").printed.splitlines()
    assert max(map(len, lines)) <= 70
    assert lines[1].split() == ["time", "magic", "model", "question", "answer", "tokens"]
    words = " ".join(lines).split()
    assert {"domesticated", "America,", "keep", "it?"} <= set(words)


def test_a_cleared_log_begins_a_new_conversation(notebook: Any) -> None:
    engine = notebook.answers("A")
    notebook.good("%llm Q1")
    assert "1 exchanges forgotten" in notebook.good("%llm_history --clear").printed
    notebook.good("%llm Q2")
    assert turns(engine) == ["Q2"]


def test_the_export_is_json_lines_with_everything(notebook: Any, tmp_path: Path) -> None:
    notebook.answers("Zeile eins\nzwei\u2028drei 🦙", "Because.\nAnswer: 2")
    notebook.good("%%llm -s Sys -t 0.5 --seed 3\nQ1", cell_id="a")
    notebook.good("%%cot -t 0\nQ2", cell_id="b")
    assert "2 exchanges written to log.jsonl" in notebook.good("%llm_history --export log.jsonl").printed
    text = (tmp_path / "log.jsonl").read_text(encoding="utf-8")
    assert text.endswith("\n") and text.count("\n") == 2
    first, second = (json.loads(line) for line in text.removesuffix("\n").split("\n"))
    assert first["question"] == "Q1" and first["answer"] == "Zeile eins\nzwei\u2028drei 🦙"
    assert first["prompt"] == "system: Sys\nuser: Q1\nassistant:" and first["model"] == "fake"
    assert first["options"]["temperature"] == 0.5 and first["options"]["seed"] == 3
    assert second["method"] == "cot" and second["answer"] == "2" and second["reasoning"] == "Because."
    assert second["usage"]["new_tokens"] == 3 and second["stop_reason"] == "end" and not second["replaced"]


def test_export_with_clear_writes_before_it_forgets(notebook: Any, tmp_path: Path) -> None:
    notebook.answers("A")
    notebook.good("%llm Q")
    notebook.good("%llm_history --export log.jsonl --clear")
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1 and len(notebook.session.history) == 0


def test_an_export_that_cannot_be_written_is_one_line_and_loses_nothing(notebook: Any, tmp_path: Path) -> None:
    notebook.answers("A")
    notebook.good("%llm Q")
    line = notebook.run("%llm_history --export nowhere/log.jsonl --clear").complaint
    assert "nowhere/log.jsonl cannot be written: No such file or directory. Give another file name" in line
    (tmp_path / "folder").mkdir()
    assert "folder cannot be written" in notebook.run("%llm_history --export folder").complaint
    assert len(notebook.session.history) == 1 and [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_an_old_export_stays_whole_where_the_new_one_fails(
    notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook.answers("A")
    notebook.good("%llm Q")
    (tmp_path / "log.jsonl").write_text("old\n")

    def full(self: Path, text: str, **unused: object) -> int:
        self.write_bytes(text.encode()[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    line = notebook.run("%llm_history --export log.jsonl").complaint
    assert "log.jsonl cannot be written: No space left on device" in line
    assert (tmp_path / "log.jsonl").read_text() == "old\n"
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


@pytest.mark.model
def test_the_real_model_remembers_what_was_said(smollm2: Any) -> None:
    smollm2.good("%llm -t 0 --max-new-tokens 20 My name is Ada.")
    prompt = smollm2.good("%llm --dry-run What is my name?").value
    assert "My name is Ada." in prompt.text and [m.role for m in prompt.messages] == ["user", "assistant", "user"]
