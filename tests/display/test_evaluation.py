"""What a person sees of an evaluation."""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from hostile import PAYLOADS
from test_answer import WIDGET, press_after, slots
from test_card import Words, unstyled, words

from llm_magics.display.evaluating import show_evaluation
from llm_magics.display.evaluation import chart, evaluation_bundle, evaluation_page, progress_items
from llm_magics.errors import Interrupted
from llm_magics.values.answers import Usage
from llm_magics.values.evaluation import (
    Difference,
    Evaluating,
    EvaluationProgress,
    EvaluationReport,
    MethodScore,
    Outcome,
)


def a_score(method: str, right: int, *, model: str = "fake", found: Difference | None = None) -> MethodScore:
    share = right / 40
    return MethodScore(
        method,
        model,
        40,
        right,
        0,
        40 - right,
        0,
        0,
        share,
        share - 0.1,
        min(1.0, share + 0.1),
        found,
        120.4,
        3.2,
        0.25,
    )


def a_report(text: str = "a text", *, method: str = "fewshot:4", **changes: Any) -> EvaluationReport:
    found = Difference(method, "llm", 40, 0.25, 0.1, 0.4, 0.004, 0.008, 700)
    outcome = Outcome(3, method, text, text, "wrong", 0.0, text, text, text, text, Usage(1, 1, 0.1, 0.2), note=text)
    report = EvaluationReport(
        source=text,
        metric="choice",
        methods=(a_score("llm", 20), a_score(method, 30, found=found), a_score("neighbours", 28, model="")),
        outcomes=(outcome, dataclasses.replace(outcome, state="failed", row=4)),
        conclusions=(f"{method} beats llm: +25 points.",),
        notes=(text,),
        leaks=(),
        labels=("a", "b"),
        rows=40,
        examples=12,
        seed=7,
        cached=30,
        seconds=3.21,
        complete=True,
    )
    return dataclasses.replace(report, **changes)


def an_evaluating(*, seconds: float = 0.0, error: Exception | None = None) -> Evaluating:
    """A run of ten steps that ends early when it is stopped."""

    def work(stop: threading.Event) -> Iterator[EvaluationProgress]:
        yield EvaluationProgress(0, 0, 0.0, status="looking for leakage")
        for step in range(1, 11):
            time.sleep(seconds / 10)
            if stop.is_set():
                return SimpleNamespace(report=a_report(complete=False))
            yield EvaluationProgress(step, 10, seconds * step / 10, 2, "llm", {"llm": (step, 0.5)})
        if error is not None:
            raise error
        return SimpleNamespace(report=a_report())

    return Evaluating("reviews", work)  # type: ignore[arg-type]


def test_the_card_says_first_what_can_be_concluded_then_shows_the_figures() -> None:
    bundle = evaluation_bundle(a_report())
    shown = words(bundle["text/html"])
    assert shown.startswith("%llm_eval · a text · donefewshot:4 beats llm: +25 points.")
    assert "75 %65 to 85+250.00830" in shown and "120 + 30.25" in shown
    assert shown.endswith("40 rows asked · 12 examples · metric choice · seed 7 · 30 answers from the cache · 3.2 s")
    text = bundle["text/plain"].splitlines()
    assert (
        text[0]
        == "%llm_eval · 40 rows asked · 12 examples · metric choice · seed 7 · 30 answers from the cache · 3.2 s"
    )
    assert "fewshot:4 beats llm: +25 points." in text
    assert "fewshot:4   \u2595" + "█" * 18 + "──" + " " * 4 + "\u258f  75 % (65 to 85)" in text


def test_the_chart_is_well_formed_and_reads_without_a_style_sheet() -> None:
    svg = re.search(r"<svg.*</svg>", chart(a_report()))[0]  # type: ignore[index]
    root = ElementTree.fromstring(svg)
    assert root.find("title").text == "llm 50 % (40 to 60); fewshot:4 75 % (65 to 85); neighbours 70 % (60 to 80)"  # type: ignore[union-attr]
    bars = [float(rect.get("width", "")) for rect in root.iter("rect")]
    assert bars == pytest.approx([195.0, 292.5, 273.0])
    assert 'class="' not in svg and svg.count("currentColor") > 3
    assert "var(--jp-brand-color1,#1976d2)" in svg  # a colour where the page has no theme


def test_unparsed_and_failed_rows_have_columns_of_their_own_where_there_are_any() -> None:
    assert "unparsed" not in evaluation_bundle(a_report())["text/plain"]
    scores = tuple(dataclasses.replace(score, unparsed=2, failed=1) for score in a_report().methods)
    bundle = evaluation_bundle(a_report(methods=scores))
    assert "unparsed  failed" in bundle["text/plain"] and ">3 rows failed<" in bundle["text/html"]


def test_each_wrong_row_is_a_click_away_with_its_exact_prompt() -> None:
    page = evaluation_bundle(a_report("the exact <prompt>"))["text/html"]
    assert "2 rows not right" in page and "Exact prompt of row 3" in page
    assert "<code>the exact &lt;prompt&gt;</code>" in page


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_rows_add_no_tag(payload: str) -> None:
    reader = Words()
    reader.feed(unstyled(evaluation_bundle(a_report(payload, method=payload))["text/html"]))
    allowed = "div span details summary b wbr table thead tbody tr th td ul li pre code svg title text rect path line"
    assert set(reader.tags) <= set(allowed.split()) and reader.links == []
    assert not [name for name in reader.attributes if name.startswith("on")]


def test_the_page_for_a_file_is_whole() -> None:
    page = evaluation_page(a_report("<b>x"))
    assert page.startswith("<!doctype html>") and page.endswith("</html>\n")
    assert "<title>Evaluation of &lt;b&gt;x</title>" in page


def test_a_long_run_shows_scores_so_far_and_then_its_card_in_their_place(page: Any) -> None:
    result = show_evaluation(an_evaluating(seconds=1.2), shell=page)
    first, last = slots(page)
    assert WIDGET in first and first["text/plain"] == "(running…)"
    assert set(last) == {"text/html", "text/plain"} and ">done<" in last["text/html"]
    assert result.report.complete


def test_progress_is_told_in_answers_and_time_left() -> None:
    assert progress_items(EvaluationProgress(0, 0, 1.0, status="looking for leakage")) == ["looking for leakage"]
    said = progress_items(EvaluationProgress(30, 90, 40.0, 10, "cot"))
    assert said == ["30 of 90 answers", "10 from the cache", "2 min left", "cot"]


def test_an_interrupt_keeps_the_rows_that_are_done(page: Any) -> None:
    press_after(0.5)
    with pytest.raises(Interrupted, match="stopped after 2 answers; what is done is in _, and") as caught:
        show_evaluation(an_evaluating(seconds=3), shell=page)
    assert not caught.value.answer.report.complete
    assert ">stopped<" in page.display_pub.outputs[-1]["data"]["text/html"]


def test_an_error_leaves_nothing_on_the_page(page: Any) -> None:
    with pytest.raises(ValueError, match="broken"):
        show_evaluation(an_evaluating(error=ValueError("broken")), shell=page)
    assert page.display_pub.outputs == []


def test_a_terminal_gets_the_plain_text(terminal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    show_evaluation(an_evaluating(), shell=terminal)
    assert capsys.readouterr().out == evaluation_bundle(a_report())["text/plain"] + "\n"
    show_evaluation(an_evaluating(), shell=terminal, silent=True)
    assert capsys.readouterr().out == ""
