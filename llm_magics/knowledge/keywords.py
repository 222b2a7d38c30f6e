"""Search by words: BM25 (Robertson and Zaragoza 2009) through bm25s (Lù 2024, arXiv:2407.03618)."""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import MissingPackageError

_TERM = re.compile(r"\w+(?:[.\-_/]+\w+)*")
_PART = re.compile(r"[^\W\d_]+|\d+")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# Chinese, Japanese and Korean letters: a clause of them is one run without spaces, and found by its pairs of letters.
_CJK = r"\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U000323af"
_SCRIPT = re.compile(rf"(?P<pairs>[{_CJK}]+)|[^{_CJK}]+")
_K1, _B = 0.9, 0.4  # for passages, all about as long (Lin et al. 2021, doi:10.1145/3404835.3463238: Pyserini's)
_COMMON = frozenset(
    """a about all an and any are as at be been but by can could did do does for from had has have how i if in into
    is it its may me my not of on or our shall should so than that the their them then there these they this to
    us was we were what when where which while who whom whose why will with would you your""".split()  # noqa: SIM905
)


class KeywordIndex:
    """BM25 over texts under whole numbers.

    Args:
        texts: the texts by number. An index is not changed: make another one.

    Raises:
        MissingPackageError: bm25s is not installed.
    """

    def __init__(self, texts: Mapping[int, str]) -> None:
        try:
            import bm25s
        except ImportError as error:
            raise MissingPackageError(error.name or "bm25s", "rag") from error
        self._numbers = list(texts)
        lists = [terms(text) for text in texts.values()]
        self._among: Counter[str] = Counter()  # texts that hold a term
        for found in lists:
            self._among.update(set(found))
        self._index: Any = None
        if self._among:
            self._index = bm25s.BM25(method="lucene", k1=_K1, b=_B)
            self._index.index(lists, show_progress=False)

    def search(self, question: str, count: int) -> list[tuple[int, float]]:
        """The numbers of the texts that share words with the question, the best first.

        Args:
            question: in a person's words.
            count: how many at most.

        Returns:
            Numbers with scores from 0 to 1: the BM25 score as a share of the highest there can be.
        """
        import numpy as np

        asked = [term for term in dict.fromkeys(terms(question)) if term in self._among]
        if self._index is None or not asked:
            return []
        scores = self._index.get_scores(asked)
        count = min(count, len(scores))
        best = np.argpartition(-scores, count - 1)[:count]
        best = best[np.argsort(-scores[best], kind="stable")]
        everything = sum(self._weight(self._among.get(term, 0)) for term in dict.fromkeys(terms(question)))
        return [(self._numbers[row], min(1.0, float(scores[row]) / everything)) for row in best if scores[row] > 0]

    def _weight(self, among: int) -> float:
        return math.log(1 + (len(self._numbers) - among + 0.5) / (among + 0.5))


def terms(text: str) -> list[str]:
    """The words that a text is found by.

    Names such as ``gc.autoPackLimit`` and ``--max-connections`` count whole and by their parts, so that a
    person who remembers one part finds them too. Plural endings and the commonest words are dropped. Chinese,
    Japanese and Korean count by pairs of neighbouring letters.
    """
    found: list[str] = []
    for term in _TERM.findall(text):
        found += _words(term)
    return found


@functools.lru_cache(maxsize=1 << 16)  # texts are made of few words: five of six are seen again
def _words(term: str) -> tuple[str, ...]:
    """A term whole, where it has parts, and its parts that count."""
    parts = [part.lower() for piece in _PART.findall(term) for part in _humps(piece)]
    whole = (term.lower(),) if len(parts) > 1 and not _holds_pairs(term) else ()
    return (*whole, *(_stem(part) for part in parts if part not in _COMMON))


def matches(text: str, question: str) -> tuple[tuple[int, int], ...]:
    """Where words of a question stand in a text.

    Args:
        text: where to look.
        question: in a person's words.

    Returns:
        Pairs of offsets into the text, in order. Words count as in the search: whole, whatever their plural
        ending, and not the commonest ones; of a name such as ``gc.autoPackLimit`` the part that was asked for.
    """
    asked = set(terms(question))
    found: list[tuple[int, int]] = []
    for term in _TERM.finditer(text):
        if term[0].lower() in asked:
            found.append(term.span())
            continue
        for piece in _PART.finditer(text, *term.span()):
            for run in _SCRIPT.finditer(text, *piece.span()):
                if run["pairs"]:
                    found += _joined(pair for pair in _pairs(*run.span()) if text[slice(*pair)] in asked)
                elif any(_stem(part.lower()) in asked for part in _humps(run[0]) if part.lower() not in _COMMON):
                    found.append(run.span())
    return tuple(found)


def _humps(word: str) -> list[str]:
    """``autoPackLimit`` as ``auto``, ``Pack``, ``Limit``. Words of other alphabets stay whole, or become pairs."""
    if word.isascii():
        return _CAMEL.findall(word) or [word]
    if not _holds_pairs(word):
        return [word]
    found: list[str] = []
    for run in _SCRIPT.finditer(word):
        found += [word[slice(*pair)] for pair in _pairs(*run.span())] if run["pairs"] else _humps(run[0])
    return found


def _holds_pairs(word: str) -> bool:
    return not word.isascii() and any(run["pairs"] for run in _SCRIPT.finditer(word))


def _pairs(start: int, end: int) -> list[tuple[int, int]]:
    """Offsets of each two neighbouring letters of a run; of a single letter its own."""
    return [(at, at + 2) for at in range(start, end - 1)] or [(start, end)]


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, those that overlap or touch as one."""
    found: list[tuple[int, int]] = []
    for start, end in spans:
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def _stem(word: str) -> str:
    """Without the ending of an English plural (Harman 1991, "How effective is suffixing?").

    Behind a hissing sound the ``e`` goes too, of the singular as well: ``branches`` is found by ``branch``, and
    ``caches`` by ``cache``.
    """
    if len(word) > 3 and word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("us", "ss")):
        word = word[:-1]
    return word[:-1] if word.endswith(("che", "she", "sse", "xe", "ze")) else word
