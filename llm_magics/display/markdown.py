"""Model text to HTML that cannot do anything but be read.

Contract: whatever the text, the result holds no script, no event handler, no image, no foreign request,
and no link other than http, https and mailto (a relative one would reach into the Jupyter server), except
those to the sources on its own card, which are made here. Raw HTML in the text is shown as text. Only what
stands between maths delimiters is typeset, and maths that asks for links or styles is shown as code.
Jupyter itself does not sanitise Markdown in a cell that was run, so model text must never reach
``display(Markdown(...))``.
"""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..citations import citations

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_core import StateCore
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

NO_MATHS = "tex2jax_ignore mathjax_ignore"
"""Classes that keep MathJax 2 (nbconvert) and 3 (JupyterLab) away from an element."""

_MATHS = "tex2jax_process mathjax_process"

Cited = Mapping[int, tuple[str, str]]
"""What a number in brackets may stand for: the name of the source's anchor on the card, and the source's name."""

# Control characters would steer a terminal, and half a surrogate pair cannot be sent to the front end.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

# TeX that links, styles or loads: MathJax obeys it, up to javascript: links in nbconvert's version.
_UNSAFE_TEX = re.compile(
    r"\\(?:href|url|style|class|cssId|data|require|unicode|bbox|mmlToken|includegraphics)(?![a-zA-Z])"
)


def printable(text: str) -> str:
    """The text without control characters, lone surrogates and carriage returns.

    Args:
        text: any text from outside.
    """
    return _UNPRINTABLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def escape(text: object) -> str:
    """Any value as text that is safe between tags and in quoted attributes."""
    return html.escape(printable(str(text)))


def breakable(text: object) -> str:
    """As ``escape``, and a long path may break after each slash."""
    return re.sub(r"([/\\]+)(?=[^/\\])", r"\1<wbr>", escape(text))


def render(text: str, cited: Cited | None = None) -> str:
    """Markdown from a model as safe HTML.

    Args:
        text: CommonMark with tables, strikethrough, and maths in ``$``, ``$$``, ``\\(``, ``\\[``.
        cited: the sources that numbers in brackets link to; other numbers stay as they are.

    Returns:
        HTML to put into an element that has the classes of ``NO_MATHS``.
    """
    return str(_parser(bool(cited)).render(printable(text), {"cited": cited or {}}))


def render_text(text: str, cited: Cited | None = None) -> str:
    """Plain text from a model as safe HTML.

    Args:
        text: any text; its line ends are kept.
        cited: as for ``render``.
    """
    pieces = []
    for piece, anchor, title in _cut(printable(text), cited or {}):
        link = f'<a class="llm-cite" href="#{escape(anchor)}" title="{escape(title)}">{escape(piece)}</a>'
        pieces.append(link if anchor else escape(piece))
    return "".join(pieces)


def split_finished(text: str) -> tuple[str, str]:
    """Cut a growing Markdown text before its last top-level block, which may still change.

    Args:
        text: the text so far.

    Returns:
        The finished blocks and the rest; together they are ``text``.
    """
    starts = [token.map[0] for token in _parser().parse(text) if token.map and token.level == 0]
    if not starts:
        return "", text
    lines = re.split(r"(?<=\n)", text)  # not splitlines, which knows ends of line that Markdown does not
    return "".join(lines[: starts[-1]]), "".join(lines[starts[-1] :])


def highlight(code: str, language: str) -> str:
    """Code as escaped HTML with the classes that style.css colours like the cells of the notebook.

    Args:
        code: the source text.
        language: a name that pygments knows; any other gives plain text.
    """
    from pygments import lex
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return html.escape(code)
    pieces: list[tuple[str, str]] = []
    for kind, value in lex(code, lexer):
        name = _code_class(kind)
        if pieces and pieces[-1][0] == name:  # one span for neighbours of one colour keeps the page small
            pieces[-1] = (name, pieces[-1][1] + value)
        else:
            pieces.append((name, value))
    return "".join(
        f'<span class="{name}">{html.escape(value)}</span>' if name else html.escape(value) for name, value in pieces
    )


def _code_class(kind: Any) -> str:
    from pygments.token import Token as Kind

    classes = {
        Kind.Comment: "llm-c-comment",
        Kind.Keyword.Constant: "llm-c-atom",
        Kind.Keyword: "llm-c-keyword",
        Kind.Operator.Word: "llm-c-keyword",
        Kind.Operator: "llm-c-operator",
        Kind.Literal.String: "llm-c-string",
        Kind.Literal.Number: "llm-c-number",
        Kind.Name.Function: "llm-c-def",
        Kind.Name.Class: "llm-c-def",
        Kind.Name.Tag: "llm-c-def",
        Kind.Name.Builtin: "llm-c-builtin",
    }
    while kind is not None:
        if kind in classes:
            return classes[kind]
        kind = kind.parent
    return ""


@functools.cache
def _parser(cites: bool = False) -> MarkdownIt:
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    parser = MarkdownIt("commonmark", {"html": False, "highlight": lambda code, name, _: highlight(code, name)})
    parser.enable(["table", "strikethrough"]).disable("image")
    parser.use(dollarmath_plugin, allow_labels=False, allow_space=False, allow_digits=False, double_inline=True)
    parser.validateLink = lambda url: re.match(r"https?://|mailto:", url, re.IGNORECASE) is not None  # type: ignore[method-assign]
    parser.inline.ruler.before("escape", "math_brackets", _inline_brackets)
    parser.block.ruler.before("fence", "math_brackets", _block_brackets, {"alt": ["paragraph", "blockquote", "list"]})
    parser.add_render_rule("math_inline", _maths('<span class="{0}">${1}$</span>', "code"))
    parser.add_render_rule("math_inline_double", _maths('<span class="{0}">$${1}$$</span>', "code"))
    parser.add_render_rule("math_block", _maths('<p class="{0}">$${1}$$</p>\n', "pre"))
    parser.add_render_rule("link_open", _link_open)
    if cites:
        # A line such as "[1]: guide.md" would be taken away, and would say where each [1] leads.
        parser.disable("reference")
        parser.core.ruler.push("citations", _link_citations)
    return parser


def _cut(text: str, cited: Cited) -> list[tuple[str, str, str]]:
    """Pieces of a text, each with its anchor and title where it is a link."""
    pieces: list[tuple[str, str, str]] = []
    end = 0
    for found in citations(text, cited):
        pieces += [(text[end : found.start], "", ""), (text[found.start : found.end], *cited[found.number])]
        end = found.end
    return [*pieces, (text[end:], "", "")]


def _link_citations(state: StateCore) -> None:
    """Turn citations in running text into links; code and maths are tokens of their own and not looked at."""
    from markdown_it.token import Token

    for block in state.tokens:
        if block.type != "inline":
            continue
        depth, children = 0, []
        for token in block.children or []:
            depth += {"link_open": 1, "link_close": -1}.get(token.type, 0)
            if token.type != "text" or depth:
                children.append(token)
                continue
            for text, anchor, title in _cut(token.content, state.env["cited"]):
                piece = Token("text", "", 0, content=text, level=token.level)
                link = {"class": "llm-cite", "href": f"#{anchor}", "title": printable(title)}
                opening, closing = Token("cite_open", "a", 1, attrs={**link}), Token("cite_close", "a", -1)
                children += [opening, piece, closing] if anchor else [piece] if text else []
        block.children = children


def _inline_brackets(state: StateInline, silent: bool) -> bool:
    opening = state.src[state.pos : state.pos + 2]
    closing = {"\\(": "\\)", "\\[": "\\]"}.get(opening)
    end = state.src.find(closing, state.pos + 2, state.posMax) if closing else -1
    content = state.src[state.pos + 2 : end].strip()
    if end < 0 or not content or "$" in content:
        return False
    if not silent:
        token = state.push("math_inline" if opening == "\\(" else "math_inline_double", "math", 0)
        token.content = content
    state.pos = end + 2
    return True


def _block_brackets(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    r"""From ``\[`` at the start of a line to ``\]`` at the end of one: a line of ``=`` or ``-`` in it is maths."""
    first = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    if not first.startswith("\\[") or state.is_code_block(start):
        return False
    for line in range(start, end):
        text = state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]].rstrip()
        if line > start and state.sCount[line] < state.blkIndent:
            return False
        if text.endswith("\\]"):
            break
    else:
        return False
    content = state.getLines(start, line + 1, state.blkIndent, False).strip()[2:-2].strip()
    if not content or "$" in content or "\\]" in content:
        return False
    if not silent:
        token = state.push("math_block", "math", 0)
        token.block = True
        token.content = content
        token.map = [start, line + 1]
        state.line = line + 1
    return True


def _maths(form: str, plain: str) -> Callable[..., str]:
    def rule(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        content = html.escape(tokens[index].content.strip(), quote=False)
        if _UNSAFE_TEX.search(tokens[index].content):
            return f"<{plain}>{content}</{plain}>"
        return form.format(_MATHS, content)

    return rule


def _link_open(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    # A link opens beside the notebook, and the page it opens learns nothing of the notebook.
    tokens[index].attrSet("target", "_blank")
    tokens[index].attrSet("rel", "noopener noreferrer")
    return str(renderer.renderToken(tokens, index, options, env))
