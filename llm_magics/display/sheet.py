"""The style sheet, whole for a running answer, and cut to what a saved card uses.

Every saved card brings its own rules, for a notebook may be opened with any of its cards left. Two cards
on one page then have different parts of one sheet, and whichever comes last is last in the cascade. So a
rule that changes what another rule set must be the more specific of the two, and never just the later.
"""

from __future__ import annotations

import functools
import importlib.resources
import re

_RULE = re.compile(r"([^{}]+)\{((?:[^{}]|\{[^{}]*\})*)\}")
_PSEUDO = re.compile(r"::?[\w-]+(?:\((?:[^()]|\([^()]*\))*\))?|\[[^\]]*\]")  # attributes come and go, as open does


def whole() -> str:
    """All rules, without comments and needless white space."""
    return "".join(f"{selector}{{{body}}}" for selector, body in _rules())


def used_by(page: str) -> str:
    """The rules that match something on a page; what only a running answer needs is not among them.

    Args:
        page: safe HTML.
    """
    there = set(re.findall(r"<([a-z][a-z0-9]*)", page))
    there |= {f".{name}" for names in re.findall(r'class="([^"]*)"', page) for name in names.split()}
    kept = []
    for selectors, body in _rules():
        matching = [one for one, needed in _needed(selectors) if needed <= there]
        if matching:
            kept.append(f"{','.join(matching)}{{{body}}}")
    return "".join(kept)


def minified(sheet: str) -> str:
    """The same rules in fewer characters.

    Args:
        sheet: CSS without strings that hold comments, braces or double spaces.
    """
    text = re.sub(r"\s+", " ", re.sub(r"/\*.*?\*/", "", sheet, flags=re.DOTALL))
    text = re.sub(r" ?([{};,>]) ?", r"\1", text)
    # A space before a colon is a descendant's in a selector, so only the one after it goes, and only in declarations.
    text = re.sub(r"(?<=[{;])([\w-]+): ", r"\1:", text)
    return text.replace(";}", "}").replace(" !important", "!important").strip()


@functools.cache
def _rules() -> tuple[tuple[str, str], ...]:
    """Each rule's selectors, or the head of an at-rule, and what stands in its braces."""
    sheet = importlib.resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    return tuple(_RULE.findall(minified(sheet)))


@functools.cache
def _needed(selectors: str) -> tuple[tuple[str, frozenset[str]], ...]:
    """Each of the selectors, with the classes and tags without which it matches nothing."""
    if selectors.startswith("@"):
        return ((selectors, frozenset({"a running answer"})),)  # animations: nothing saved moves
    return tuple(
        (one, frozenset(re.findall(r"\.?[a-zA-Z][\w-]*", _PSEUDO.sub("", one))))
        for one in re.split(r",(?![^()]*\))", selectors)
    )
