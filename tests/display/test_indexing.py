"""What a person sees of documents on their way into a knowledge base."""

from __future__ import annotations

import itertools
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from hostile import PAYLOADS
from test_answer import WIDGET, slots
from test_card import Words, unstyled, words

from llm_magics.display.indexing import added_bundle, progress_items, show_indexing, stopped_bundle
from llm_magics.display.words import duration
from llm_magics.errors import Interrupted, KnowledgeError
from llm_magics.values.knowledge import Added, Indexing, IndexingProgress, KnowledgeBaseInfo

BEFORE = KnowledgeBaseInfo("docs", 2, 6, "all-MiniLM-L6-v2", "exact")
AFTER = KnowledgeBaseInfo("docs", 8, 20, "all-MiniLM-L6-v2", "exact", "/home/me/7/docs")
ADDED = Added(6, 0, 2, 14, 0.452)
LINE = "6 new · 0 changed · 2 unchanged sources · 14 chunks · 31 chunks/s · 0.5 s"
TOTALS = "docs holds 8 sources, 20 chunks · all-MiniLM-L6-v2 · exact index · saved in /home/me/7/docs"


def an_indexing(
    *, seconds: float = 0.0, steps: int = 10, added: Added = ADDED, error: BaseException | None = None
) -> Indexing:
    """Work that takes some time and then gives ``added`` or raises ``error``."""
    infos = iter([BEFORE, AFTER])

    def work(progress: Callable[[IndexingProgress], None]) -> Added:
        for step in range(steps):
            time.sleep(seconds / steps)
            name = "reading a\nb.md" if step < steps // 2 else ""
            progress(IndexingProgress(0 if name else step, 0 if name else steps, 0.01 + seconds * step / steps, name))
        if error is not None:
            raise error
        return added

    return Indexing("docs", work, lambda: next(infos))


def test_the_bar_is_replaced_in_its_slot_by_what_came_of_it(page: Any) -> None:
    from ipywidgets.widgets.widget import _instances

    before = set(_instances)
    assert show_indexing(an_indexing(seconds=0.8), shell=page) is ADDED
    first, last = slots(page)
    assert first["text/plain"] == "(running…)" and WIDGET in first
    assert words(last["text/html"]) == f"%rag_add · docs · done{LINE}{TOTALS}"
    assert last["text/plain"] == f"docs: {LINE}\n{TOTALS}"
    assert set(last) == {"text/html", "text/plain"} and set(_instances) == before


def test_very_short_work_shows_no_bar(page: Any) -> None:
    show_indexing(an_indexing(), shell=page)
    (only,) = page.display_pub.outputs
    assert WIDGET not in only["data"] and ">done<" in only["data"]["text/html"]


def test_the_bar_is_painted_at_most_ten_times_a_second(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from llm_magics.display.indexing import _NotebookView

    paints: list[float] = []
    monkeypatch.setattr(_NotebookView, "paint", lambda view, progress: paints.append(time.monotonic()))
    began = time.monotonic()
    show_indexing(an_indexing(seconds=1.3, steps=400), shell=page)
    assert len(paints) >= 4 and paints[0] - began >= 0.3
    assert min(later - sooner for sooner, later in itertools.pairwise(paints)) > 0.095


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (IndexingProgress(0, 0, 1.0, "reading guide/a\nb.md"), "reading guide/a b.md"),
        (IndexingProgress(0, 0, 1.0), "reading"),
        (IndexingProgress(0, 1, 1.0), "0 of 1 chunk"),
        (IndexingProgress(120, 4509, 4.0), "120 of 4,509 chunks · 30 chunks/s · 2 min left"),
        (IndexingProgress(3, 4, 2.0), "3 of 4 chunks · 1.5 chunks/s · 1 s left"),
        (IndexingProgress(1, 7801, 0.5), "1 of 7,801 chunks · 2.0 chunks/s · 1 h 5 min left"),
        (IndexingProgress(4, 4, 2.0), "4 of 4 chunks · 2.0 chunks/s"),
    ],
)
def test_progress_is_told_in_chunks_speed_and_time_left(progress: IndexingProgress, said: str) -> None:
    assert " · ".join(progress_items(progress)) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "1 s"),
        (12.4, "12 s"),
        (89, "89 s"),
        (90, "2 min"),
        (3560, "59 min"),
        (3599, "1 h 0 min"),
        (9000, "2 h 30 min"),
    ],
)
def test_a_duration_is_said_in_seconds_minutes_or_hours(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_one_is_one() -> None:
    text = added_bundle(Added(1, 0, 1, 1, 0.01), KnowledgeBaseInfo("docs", 1, 1, "m", "Milvus"))["text/plain"]
    assert text == (
        "docs: 1 new · 0 changed · 1 unchanged source · 1 chunk · 100 chunks/s · under 0.1 s\n"
        "docs holds 1 source, 1 chunk · m · Milvus · in memory only"
    )


def test_large_numbers_are_grouped() -> None:
    bundle = added_bundle(Added(2420, 0, 0, 45090, 10.0), KnowledgeBaseInfo("git", 2420, 45090, "m", "exact"))
    assert "2,420 new" in bundle["text/plain"] and "45,090 chunks · 4,509 chunks/s" in bundle["text/plain"]
    assert "<b>45,090</b> chunks" in bundle["text/html"]


def test_what_was_skipped_is_a_folded_table_and_open_where_nothing_was_added() -> None:
    skipped = {"a.pdf": "a.pdf cannot be read as pdf", "b.bin": "is no text"}
    some = added_bundle(Added(1, 0, 0, 3, 1.0, skipped), AFTER)
    none = added_bundle(Added(0, 0, 2, 0, 1.0, skipped), AFTER)
    assert '<details class="llm-fold"><summary>2 sources skipped</summary>' in some["text/html"]
    assert '<details class="llm-fold" open><summary>2 sources skipped</summary>' in none["text/html"]
    assert ">nothing new<" in none["text/html"] and "chunks/s" not in none["text/plain"]
    assert some["text/plain"].endswith("\n2 sources skipped:\n  a.pdf: cannot be read as pdf\n  b.bin: is no text")


@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_an_interrupt_says_what_is_kept_and_goes_on(page: Any, seconds: float) -> None:
    with pytest.raises(Interrupted, match="by a person"):
        show_indexing(an_indexing(seconds=seconds, error=Interrupted("by a person")), shell=page)
    last = page.display_pub.outputs[-1]["data"]
    assert ">stopped<" in last["text/html"]
    assert last["text/plain"].startswith("docs: stopped · 6 new sources, 14 chunks kept, each source whole · ")
    assert last["text/plain"].endswith(TOTALS)


def test_an_interrupt_before_the_first_source_says_so() -> None:
    text = stopped_bundle(BEFORE, BEFORE, 1.0)["text/plain"]
    assert text.startswith("docs: stopped · no new source was finished, each source is whole · 1.0 s\n")


def test_after_an_error_the_card_is_gone_and_the_error_goes_on(page: Any) -> None:
    with pytest.raises(KnowledgeError):
        show_indexing(an_indexing(seconds=0.6, error=KnowledgeError("no")), shell=page)
    assert slots(page)[1] == {"text/html": "", "text/plain": ""}


def test_an_error_at_once_shows_nothing(page: Any) -> None:
    with pytest.raises(KnowledgeError):
        show_indexing(an_indexing(error=KnowledgeError("no")), shell=page)
    assert page.display_pub.outputs == []


def test_silent_work_shows_nothing(page: Any, terminal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_indexing(an_indexing(seconds=0.5), shell=page, silent=True) is ADDED
    assert page.display_pub.outputs == [] and capsys.readouterr().out == ""


def test_captured_work_is_its_final_card_and_no_widget(page: Any) -> None:
    page.user_ns["show"] = lambda: show_indexing(an_indexing(seconds=0.5), shell=page)
    page.run_cell("%%capture cap\nadded = show()")
    (output,) = page.user_ns["cap"]._outputs
    assert set(output["data"]) == {"text/html", "text/plain"}


def test_output_that_is_no_terminal_gets_the_final_lines_alone(
    terminal: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    show_indexing(an_indexing(seconds=0.6), shell=terminal)
    assert capsys.readouterr().out == f"docs: {LINE}\n{TOTALS}\n"


def test_a_terminal_writes_one_line_over(
    terminal: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    show_indexing(an_indexing(seconds=1.2), shell=terminal)
    progress, _, final = capsys.readouterr().out.rpartition("\r\x1b[K")
    assert final == f"docs: {LINE}\n{TOTALS}\n"
    lines = progress.split("\r")[1:]
    assert lines[0] == "reading a b.md\x1b[K" and re.match(r"[5-9] of 10 chunks", lines[-1])
    assert all(len(line.removesuffix("\x1b[K")) < 20 and "\n" not in line for line in lines)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_names_add_no_tag(payload: str) -> None:
    info = KnowledgeBaseInfo(payload, 1, 1, payload, payload, payload)
    reader = Words()
    reader.feed(unstyled(added_bundle(Added(0, 0, 0, 0, 1.0, {payload: payload}), info)["text/html"]))
    allowed = ["div", "span", "details", "summary", "b", "wbr", "table", "thead", "tbody", "tr", "th", "td"]
    assert set(reader.tags) <= set(allowed) and reader.links == []
    assert not [name for name in reader.attributes if name.startswith("on")]


def test_what_is_gone_is_told_by_name() -> None:
    bundle = added_bundle(Added(0, 0, 2, 0, 1.0, gone=("a.md", "b\n.md")), AFTER)
    assert "2 taken out" in bundle["text/plain"] and ">done<" in bundle["text/html"]
    assert bundle["text/plain"].endswith("\n2 sources taken out, no longer in what was added:\n  a.md\n  b .md")
    assert "<summary>2 sources taken out, no longer in what was added</summary>" in bundle["text/html"]


def test_an_interrupt_never_keeps_less_than_nothing() -> None:
    before, after = (KnowledgeBaseInfo("docs", sources, chunks, "m", "exact") for sources, chunks in ((2, 9), (3, 5)))
    text = stopped_bundle(before, after, 1.0)["text/plain"]
    assert "1 new source kept, each source whole" in text and "-4" not in text
