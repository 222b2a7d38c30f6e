"""What a model writes is read and never run."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hostile import PAYLOADS
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_magics.display.markdown import escape, highlight, printable, render, split_finished

ALLOWED = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre",
    "s", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
ATTRIBUTES = {"a": {"href", "title", "target", "rel"}, "ol": {"start"}, "td": {"style"}, "th": {"style"}}


class Reader(HTMLParser):
    """Fails on any tag, attribute or link that is not known to be harmless."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED
        for name, value in attrs:
            assert name in ATTRIBUTES.get(tag, set()) | {"class"}
            assert name != "href" or str(value).lower().startswith(("http://", "https://", "mailto:"))
            assert name != "style" or value in ("text-align:left", "text-align:right", "text-align:center")


def check(text: str) -> str:
    page = render(text)
    Reader().feed(page)
    return page


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_text_gives_only_harmless_tags(payload: str) -> None:
    check(payload)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from(list("<>\"'`$[]()!&;\\*_#|-=~:/ \njavscripthefonl{}0")), max_size=120))
def test_no_text_at_all_gives_anything_else(text: str) -> None:
    check(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("$x_1$", ">$x_1$</span>"),
        (r"\(y_1\)", ">$y_1$</span>"),
        (r"so \[ x < 1 \] holds", ">$$x &lt; 1$$</span>"),
        ("\\[\na\n= b\n- c\n\\]", ">$$a\n= b\n- c$$</p>"),
        ("$$\nz\n$$", ">$$z$$</p>"),
    ],
)
def test_maths_in_every_common_notation_is_typeset(text: str, shown: str) -> None:
    page = check(text)
    assert shown in page
    assert "mathjax_process" in page


@pytest.mark.parametrize(
    "text", ["$5 and then $6", r"`\(x\)`", "```\n\\[\nx\n\\]\n$y$\n```", r"a \( b", "\\[\nnever closed"]
)
def test_prices_and_code_are_not_maths(text: str) -> None:
    assert "mathjax_process" not in check(text)


@pytest.mark.parametrize("macro", [r"\href{javascript:alert(1)}{x}", r"\style{position:fixed}{x}", r"\require{html}"])
def test_maths_that_links_or_styles_is_shown_as_code(macro: str) -> None:
    page = check(f"${macro}$ and \\[{macro}\\]\n\n$$\n{macro}\n$$")
    assert "mathjax_process" not in page
    assert page.count("<code>") + page.count("<pre>") == 3


def test_words_that_begin_like_a_forbidden_macro_stay_maths() -> None:
    assert "mathjax_process" in check(r"$\dataset$")


def test_code_has_classes_and_no_colours_of_its_own() -> None:
    page = check("```python\ndef f(x): return 'a' + 1  # c\n```")
    assert '<span class="llm-c-keyword">def</span>' in page
    assert "style=" not in page


def test_an_unknown_language_is_plain_escaped_text() -> None:
    assert highlight("<b>", "no-such-language") == "&lt;b&gt;"


def test_a_link_opens_beside_the_notebook() -> None:
    assert 'href="https://a.org" target="_blank" rel="noopener noreferrer"' in check("[a](https://a.org)")


def test_control_characters_and_lone_surrogates_are_dropped() -> None:
    assert printable("a\x1b[31m\x07b\r\nc\ud800\td") == "a[31mb\nc\td"
    render("\ud800").encode("utf-8")


def test_escape_is_safe_in_attributes() -> None:
    assert escape("\"'<&") == "&quot;&#x27;&lt;&amp;"


@pytest.mark.parametrize(
    ("text", "finished"),
    [
        ("one paragraph", ""),
        ("a\n\nb", "a\n\n"),
        ("a\n\n```\nx\n\ny\n", "a\n\n"),
        ("# t\n\n- a\n- b\n\n| a |\n|---|\n| 1 |\n\nlast", "# t\n\n- a\n- b\n\n| a |\n|---|\n| 1 |\n\n"),
        ("a\u2028b\n\nc", "a\u2028b\n\n"),
        ("", ""),
    ],
)
def test_a_growing_text_is_cut_before_its_last_block(text: str, finished: str) -> None:
    assert split_finished(text) == (finished, text[len(finished) :])


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.sampled_from(list("ab \n#-*`>|$\\[]1.")), max_size=200))
def test_cutting_loses_nothing(text: str) -> None:
    assert "".join(split_finished(text)) == text
