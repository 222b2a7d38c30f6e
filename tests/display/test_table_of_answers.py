"""What a person sees of a table whose rows are being answered."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from hostile import PAYLOADS
from test_answer import WIDGET, slots
from test_card import Words, unstyled, words

from llm_magics.display.over import progress_items, show_table
from llm_magics.errors import Interrupted, ModelError
from llm_magics.values.answers import Usage
from llm_magics.values.messages import Prompt
from llm_magics.values.tables import AnswerTable, RowsProgress


def a_table(
    rows: int = 10,
    *,
    seconds: float = 0.0,
    error: Exception | None = None,
    kept: int = 0,
    text: str = "short",
    source: str = "df",
) -> AnswerTable:
    """Rows that take some time altogether, then an error where one is given."""
    done = 0

    def answered(stop: threading.Event) -> Iterator[RowsProgress]:
        nonlocal done
        begin = time.perf_counter()
        for number in range(rows):
            if stop.wait(seconds / rows):
                return
            done = number + 1
            usage = Usage(10 * done, 2 * done, 0.0, max(0.01, time.perf_counter() - begin))
            yield RowsProgress(done, rows, min(kept, done), 0, usage)
        if error is not None:
            raise error

    def frame() -> pd.DataFrame:
        return pd.DataFrame(
            {"text": text, "answer": "fine", "error": None, "tokens_in": 10, "tokens_out": 2, "seconds": 0.1},
            index=range(done),
        )

    return AnswerTable(
        method="llm",
        model="fake",
        source=source,
        total=rows,
        columns=("answer", "error"),
        first=lambda: Prompt((), "", 0),  # type: ignore[arg-type, return-value]
        rows=answered,
        frame=frame,
    )


def test_the_bar_is_replaced_in_its_slot_by_the_first_rows_and_the_figures(page: Any) -> None:
    from ipywidgets.widgets.widget import _instances

    before = set(_instances)
    show_table(a_table(seconds=1.2), out="result", shell=page)
    first, last = slots(page)
    assert first["text/plain"] == "(running…)" and WIDGET in first
    shown = words(last["text/html"])
    assert shown.startswith("%%llm · fake · doneover df · 10 of 10 rows · ")
    assert shown.endswith("100 prompt + 20 new tokens · result is a DataFrame of 10 rows, 6 columns")
    assert last["text/html"].count("<tr>") == 9, "eight rows are shown"
    assert "error" not in shown, "no row has one"
    assert set(last) == {"text/html", "text/plain"} and set(_instances) == before


def test_very_short_work_shows_no_bar(page: Any) -> None:
    show_table(a_table(), out="result", shell=page)
    (only,) = page.display_pub.outputs
    assert WIDGET not in only["data"] and ">done<" in only["data"]["text/html"]


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (RowsProgress(0, 100, 0, 0, Usage(seconds=1.0)), "0 of 100 rows"),
        (RowsProgress(40, 100, 0, 2, Usage(seconds=10.0)), "40 of 100 rows · 4.0 rows/s · 15 s left · 2 failed"),
        (
            RowsProgress(74, 100, 64, 0, Usage(seconds=5.0)),
            "74 of 100 rows · 2.0 rows/s · 13 s left · 64 of 100 rows were there already",
        ),
        (RowsProgress(12000, 12000, 0, 0, Usage(seconds=60.0)), "12,000 of 12,000 rows · 200 rows/s"),
    ],
)
def test_progress_is_told_in_rows_speed_and_time_left(progress: RowsProgress, said: str) -> None:
    assert " · ".join(progress_items(progress)) == said


def test_an_interrupt_shows_what_is_done_and_says_how_to_go_on(page: Any) -> None:
    threading.Timer(0.6, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(Interrupted, match=r"stopped after \d+ of 100 rows; they are in result, and running the cell"):
        show_table(a_table(100, seconds=20.0), out="result", shell=page)
    last = page.display_pub.outputs[-1]["data"]
    assert ">stopped<" in last["text/html"] and "llm-pill-warn" in last["text/html"]


def test_after_an_error_the_rows_that_are_done_are_shown_and_it_goes_on(page: Any) -> None:
    with pytest.raises(ModelError, match="gone"):
        show_table(a_table(3, error=ModelError("gone")), out="result", shell=page)
    assert "result is a DataFrame of 3 rows" in page.display_pub.outputs[-1]["data"]["text/plain"]


def test_an_error_before_the_first_row_shows_nothing(page: Any) -> None:
    table = a_table(1, error=ModelError("no"))
    table._rows = lambda stop: (_ for _ in ()).throw(ModelError("no"))
    with pytest.raises(ModelError):
        show_table(table, out="result", shell=page)
    assert page.display_pub.outputs == []


def test_silent_work_shows_nothing(page: Any, capsys: pytest.CaptureFixture[str]) -> None:
    show_table(a_table(seconds=0.5), out="result", shell=page, silent=True)
    assert page.display_pub.outputs == [] and capsys.readouterr().out == ""


def test_a_terminal_gets_a_line_that_is_written_over_and_then_the_table(
    terminal: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show_table(a_table(seconds=1.2, rows=5), out="result", shell=terminal)
    progress, _, final = capsys.readouterr().out.rpartition("\r\x1b[K")
    assert "of 5 rows · " in progress
    lines = final.splitlines()
    assert lines[0].startswith("%%llm over df, done: 5 of 5 rows · ")
    assert lines[1].split() == ["text", "answer"] and lines[2].split() == ["short", "fine"]
    assert lines[-1] == "50 prompt + 10 new tokens · result is a DataFrame of 5 rows, 6 columns"


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_values_add_no_tag(page: Any, payload: str) -> None:
    show_table(a_table(2, text=payload, source=payload), out="result", shell=page)
    reader = Words()
    reader.feed(unstyled(page.display_pub.outputs[-1]["data"]["text/html"]))
    assert set(reader.tags) <= {"div", "span", "b", "wbr", "table", "thead", "tbody", "tr", "th", "td"}
    assert reader.links == [] and not [name for name in reader.attributes if name.startswith("on")]
