"""What stands on a card, with and without its style sheet."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest
from hostile import PAYLOADS

from llm_magics.display.card import answer_bundle, answer_html, answer_text, style
from llm_magics.values.answers import Answer, Usage, Vote
from llm_magics.values.asking import GenerationOptions


class Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words = ""
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.words += data


def unstyled(page: str) -> str:
    """What stands after the style sheet."""
    sheet, end, rest = page.partition("</style>")
    assert sheet.startswith("<style>") and end and "<" not in sheet.removeprefix("<style>")
    return rest


def words(page: str) -> str:
    reader = Words()
    reader.feed(unstyled(page))
    return reader.words


USAGE = Usage(212, 180, 0.14, 3.706)


def test_the_footer_tells_the_costs_and_reads_without_the_style_sheet() -> None:
    text = words(answer_html(Answer("hi", model="m", usage=USAGE)))
    assert text == "%%llm · m · donehi\n212 prompt + 180 new tokens · 50.2 tok/s · first token 0.14 s · 3.7 s"
    quick = dataclasses.replace(USAGE, seconds_to_first_token=0.03, seconds=0.034)
    assert words(answer_html(Answer("hi", usage=quick))).endswith("first token 0.03 s · 0.03 s")


def test_tokens_that_were_known_before_are_told_where_there_are_any() -> None:
    known = dataclasses.replace(USAGE, cached_tokens=190)
    assert "\n212 prompt (190 cached) + 180 new tokens · 50.2" in words(answer_html(Answer("hi", usage=known)))
    assert "cached" not in words(answer_html(Answer("hi", usage=USAGE)))


@pytest.mark.parametrize(("temperature", "shown"), [(0.0, False), (0.7, True)])
def test_the_seed_is_told_where_it_mattered(temperature: float, shown: bool) -> None:
    options = GenerationOptions(temperature=temperature, seed=42)
    assert ("seed 42" in words(answer_html(Answer("hi", options=options)))) == shown


@pytest.mark.parametrize(
    ("reason", "state"), [("end", "done"), ("stop", "done"), ("stopped", "stopped"), ("length", "cut at 180 tokens")]
)
def test_the_pill_tells_why_the_answer_ended(reason: str, state: str) -> None:
    page = answer_html(Answer("hi", model="m", stop_reason=reason, usage=USAGE))  # type: ignore[arg-type]
    assert re.search(rf'class="llm-pill[^"]*">{state}<', page)
    assert f'aria-label="%%llm answer from m, {state}"' in page


def test_reasoning_is_folded_and_the_answer_is_apart() -> None:
    page = answer_html(Answer("18", reasoning="3 * 6", method="cot"))
    assert '<details class="llm-fold"><summary>Reasoning</summary>' in page
    assert page.index("3 * 6") < page.index("</details>") < page.index(">18<")


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("end", "No final answer found in the reasoning."),
        ("length", "No final answer found: the reasoning was cut at 180 tokens."),
        ("stopped", "Stopped before an answer."),
    ],
)
def test_without_a_final_answer_it_says_so_and_unfolds_the_reasoning(reason: str, said: str) -> None:
    answer = Answer("", reasoning="on and on", method="cot", parsed=False, stop_reason=reason, usage=USAGE)  # type: ignore[arg-type]
    page = answer_html(answer)
    assert "<details" in page and " open>" in page
    assert said in page
    assert answer_text(answer) == f"{said}\non and on"


def test_an_empty_answer_says_so() -> None:
    assert "The model gave no text." in answer_html(Answer(""))


def test_votes_and_probabilities_are_bars_with_figures() -> None:
    answer = Answer("18", votes=(Vote("18", 4), Vote("16", 1)), probabilities={"b": 0.25, "a": 0.75})
    text = words(answer_html(answer))
    assert "184 of 5161 of 5" in text
    assert "a75.0%b25.0%" in text
    assert '<progress max="1" value="0.8000" aria-label="18">' in answer_html(answer)
    assert answer_text(answer) == "18\n(18: 4 of 5, 16: 1 of 5)\n(a: 75.0%, b: 25.0%)"


def test_what_a_probability_was_made_of_stands_beside_it() -> None:
    evidence = {"model": {"a": 0.1, "b": 0.9}, "calibrated": {"a": 0.4, "b": 0.6}, "examples": {"a": 0.8, "b": 0.2}}
    answer = Answer("a", probabilities={"a": 0.7, "b": 0.3}, evidence=evidence)
    text = words(answer_html(answer))
    assert "Probability of each choice, by the calibrated model and the examples" in text
    assert "in allmodelcalibrated modelexamples" in text
    assert "a70.0%10.0%40.0%80.0%b30.0%90.0%60.0%20.0%" in text
    assert answer_text(answer).endswith(
        "(joined of two: the model, its leaning taken out, says b at 60.0%, the nearest examples say a at 80.0%; "
        "left as it is, the model says b at 90.0%)"
    )
    alone = Answer("b", probabilities={"a": 0.1, "b": 0.9}, evidence={"model": {"a": 0.1, "b": 0.9}})
    assert "says" not in answer_text(alone) and "model" not in words(answer_html(alone))


def test_votes_are_counted_among_all_chains_those_without_an_answer_too() -> None:
    answer = Answer("4", votes=(Vote("4", 1),), chains=5)
    page = answer_html(answer)
    assert "41 of 5no final answer4 of 5" in words(page)
    assert '<progress max="1" value="0.2000" aria-label="4">' in page
    assert answer_text(answer) == "4\n(4: 1 of 5, no final answer: 4 of 5)"
    none = Answer("", parsed=False, reasoning="so", chains=3)
    assert "no final answer3 of 3" in words(answer_html(none))
    assert answer_text(none).endswith("\nso\n(no final answer: 3 of 3)")


def test_json_is_indented_and_coloured() -> None:
    page = answer_html(Answer('{"a":[1,"ä"]}', output_format="json", data={"a": [1, "ä"]}))
    assert words(page).startswith('%%llm · done\n{\n  "a": [\n    1,\n    "ä"\n  ]\n}')
    assert "llm-c-number" in page


def test_json_that_did_not_parse_is_shown_as_it_came() -> None:
    assert "{oh no" in words(answer_html(Answer("{oh no", output_format="json")))


def test_the_code_in_an_answer_is_shown_without_the_talk_around_it() -> None:
    page = answer_html(Answer("Here:\n```python\nx = 1\n```\nBye", output_format="code", data="x = 1\n"))
    assert words(page).startswith("%%llm · done\nx = 1\n") and "Here" not in words(page)
    assert "llm-c-number" in page


def test_text_and_code_are_not_read_as_markdown() -> None:
    for format in ("text", "code"):
        assert "**a**\n<b>" in words(answer_html(Answer("**a**\n<b>", output_format=format)))


def test_no_markdown_is_left_for_a_viewer_to_render() -> None:
    assert set(answer_bundle(Answer("hi"))) == {"text/html", "text/plain"}


def test_maths_is_off_except_in_the_maths_of_the_body() -> None:
    page = answer_html(Answer("$x$", model="$y$"))
    assert '<div class="llm-card tex2jax_ignore mathjax_ignore"' in page
    assert page.count("mathjax_process") == 1


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("format", ["markdown", "text", "json", "code"])
def test_hostile_text_in_any_place_adds_no_tag(payload: str, format: str) -> None:
    answer = Answer(
        payload,
        reasoning=payload,
        method=payload,
        model=payload,
        votes=(Vote(payload, 1),),
        probabilities={payload: 1.0},
        data={payload: payload} if format == "json" else None,
        output_format=format,
    )
    reader = Words()
    reader.feed(unstyled(answer_html(answer)))
    assert not {"img", "script", "svg", "iframe", "style", "object", "embed", "form", "input"} & set(reader.tags)
    assert not [name for name in reader.attributes if name.startswith("on")]
    assert not [link for link in reader.links if not link.startswith(("http:", "https:", "mailto:"))]


def test_the_style_sheet_takes_its_colours_from_the_theme() -> None:
    rules = [rule for rule in style().split("}") if ".llm-pill-" not in rule]
    bare = re.sub(r"var\(--jp-[a-z0-9-]+,#[0-9a-f]{3,6}\)", "", "}".join(rules))
    assert not re.findall(r"#[0-9a-f]{3,6}", bare)


def test_a_tie_says_that_no_answer_has_a_majority() -> None:
    tied = Answer("50", method="cot", model="m", votes=(Vote("50", 1), Vote("2", 1)), chains=3)
    why = "no answer has a majority, the first of the best is shown"
    assert answer_text(tied) == f"50\n({why}; 50: 1 of 3, 2: 1 of 3, no final answer: 1 of 3)"
    assert why in words(answer_html(tied))
    first = Answer("50", method="cot", model="m", votes=(Vote("50", 2), Vote("2", 1)), chains=3)
    assert why not in answer_text(first) and why not in words(answer_html(first))
