"""What a model's text says: its final answer, its reasoning, the JSON or the code in it.

Nothing here guesses. A text without a marked final answer has none, and JSON that is broken is an
error, not the part of it that could be read.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from ..errors import AnswerFormatError
from ..values.answers import Vote

# "Answer: 4", "**Final answer:** 4" where a line or a sentence begins, and "### Answer" or
# "**Answer**" on a line of its own.
_LABEL = re.compile(
    r"(?:^[ \t>#*_`-]*(?:\d+[.)][ \t]+)?|(?<=[.!?:][ \t]))[*_]*"
    r"(?:(?:so|thus|therefore|hence),?[ \t]+)?(?:the[ \t]+)?(?:final[ \t]+)?"
    r"answer[ \t]*[*_]*[ \t]*[:\uff1a][ \t]*[*_]*"
    r"|^[ \t]*(?:#+[ \t]*|\*\*)(?:the[ \t]+)?(?:final[ \t]+)?answer[ \t*]*$",
    re.IGNORECASE | re.MULTILINE,
)
# "The answer is 4.", "the final answer to the question is: 4"
_SENTENCE = re.compile(
    r"\b(?:the|final|correct)[ \t]+(?:final[ \t]+|correct[ \t]+)?answer"
    r"(?:[ \t]+to[ \t][^.:\n]{1,80}?)?[ \t]+(?:is|will[ \t]+be)\b[ \t]*:?",
    re.IGNORECASE,
)
_BOXED = re.compile(r"\\boxed\s*\{")
_SENTENCE_END = re.compile(r"(?<!\bMr)(?<!\bDr)(?<!\bSt)(?<!\bMs)(?<!\bMrs)[.!?](?=\s)")
_LEFT_OVER = re.compile(r"^(?:\\[\])]|[}*_$.`]|[ \t])+")  # what closes the answer's Markdown or LaTeX
_FENCE = re.compile(r"^[ \t]*(?P<fence>`{3,}|~{3,})[^\n`]*$", re.MULTILINE)
_THINK = re.compile(r"\s*<think(?:ing)?>", re.IGNORECASE)
_THINK_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_NUMBER = re.compile(r"(-?)([0-9]+|[0-9]{1,3}(?:[,\u00a0\u202f ][0-9]{3})+)(?:\.([0-9]*))?")

_TIMES, _LOOP, _LONGEST_PIECE = 12, 160, 120  # a loop: times that it is said, characters in all, characters of a piece


@dataclass(frozen=True)
class FinalAnswer:
    """A model's text taken apart.

    Attributes:
        reasoning: everything but the final answer; the whole text where none was found.
        answer: the final answer; empty where none was found.
        parsed: whether a final answer was found.
    """

    reasoning: str
    answer: str
    parsed: bool


def final_answer(text: str, *, whole: bool = True) -> FinalAnswer:
    """Find the final answer that a text marks as such.

    The last marker counts: a line or sentence that begins with ``Answer:`` or ``Final answer:``, with or
    without Markdown, a sentence ``The answer is ...``, or ``\\boxed{...}``.

    Args:
        text: what the model wrote. The ``<think>`` part of a reasoning model goes to the reasoning.
        whole: False where the text was cut off: an answer on its last line may lack its end, so it
            does not count.

    Returns:
        The answer and the rest; ``parsed`` is False where there is no marker or nothing after it.
    """
    if not whole:
        complete = text[: text.rfind("\n") + 1]
        found = final_answer(complete)
        return found if found.parsed else FinalAnswer(text.strip(), "", False)
    thought, visible = split_thinking(text)
    label = _last(_LABEL, visible)
    marks = [mark for mark in (label, _last(_SENTENCE, visible), _last(_BOXED, visible)) if mark]
    if not marks:
        return FinalAnswer(_paragraphs(thought, visible), "", False)
    mark = max(marks, key=lambda found: found.end())
    if mark.re is _BOXED:
        end = _closing_brace(visible, mark.end())
        raw = visible[mark.end() : end]
    else:
        raw = _after(visible, mark.end(), sentence=mark.re is _SENTENCE)
        end = mark.end() + len(raw)
    answer = _clean(raw)
    if not answer:
        return FinalAnswer(_paragraphs(thought, visible), "", False)
    begin = mark.start() if mark.re is _LABEL else _sentence_start(visible, mark.start())
    rest = _LEFT_OVER.sub("", visible[end:])
    return FinalAnswer(_paragraphs(thought, visible[:begin], rest), answer, True)


def split_thinking(text: str) -> tuple[str, str]:
    """Part what a reasoning model thinks from what it says.

    Args:
        text: what the model wrote. A beginning without ``<think>`` counts as thought where
            ``</think>`` follows: some chat templates put the opening tag into the prompt.

    Returns:
        The reasoning without its tags, and the answer. An unclosed ``<think>`` was cut off, so all
        of it is reasoning.
    """
    thoughts: list[str] = []
    rest = text
    while True:
        begin = _THINK.match(rest)
        end = _THINK_END.search(rest)
        opened_later = not begin and end is not None and re.search(r"<think(?:ing)?>", rest[: end.start()], re.I)
        if (not begin and (not end or thoughts)) or opened_later:
            return _paragraphs(*thoughts), rest.strip() if thoughts else rest
        start = begin.end() if begin else 0
        if end is None:
            return _paragraphs(*thoughts, rest[start:]), ""
        thoughts.append(rest[start : end.start()])
        rest = rest[end.end() :]


def loops(text: str, asked: str = "") -> bool:
    """Whether a text ends in the same short piece over and over, which a small model does not leave again.

    The pieces must be equal to the letter: of a list, of numbered lines or of a table, each differs. Rules, dots and
    single characters, an open block of code, and what a person's own words ask for do not count.

    Args:
        text: what the model has written so far.
        asked: the question; a piece whose words are all in it may have been asked for.
    """
    for size in range(3, _LONGEST_PIECE + 1):
        length = max(_TIMES * size, _LOOP)
        # Asked after every token: most sizes end at their first character, before anything is copied.
        if len(text) >= length and text[-1] == text[-1 - size] and text[-length:-size] == text[size - length :]:
            piece = text[-size:]
            words = re.findall(r"\w+", piece.casefold())
            wanted = all(word in asked.casefold() for word in words)
            return len(set(piece)) > 2 and not wanted and text.count("```") % 2 == 0
    return False


def tally(answers: Sequence[FinalAnswer]) -> tuple[Vote, ...]:
    """Count the final answers of several chains: self-consistency, Wang et al. 2022 (arXiv:2203.11171).

    Case, Markdown, trailing punctuation, thousands separators and the way a number is written make
    no difference. Chains without a final answer are not counted.

    Args:
        answers: one a chain.

    Returns:
        The votes, the most frequent first, and among equals the one seen first. An answer is
        spelled as it was first seen.
    """
    votes: dict[str, tuple[str, int]] = {}
    for item in answers:
        if item.parsed:
            key = _normal(item.answer)
            spelling, count = votes.get(key, (item.answer, 0))
            votes[key] = (spelling, count + 1)
    ordered = sorted(votes.values(), key=lambda vote: -vote[1])
    return tuple(Vote(spelling, count) for spelling, count in ordered)


def parse_json(text: str) -> object:
    """Read the JSON in an answer.

    Args:
        text: JSON alone, in a fenced block, or with prose around it. Of several values the longest
            counts. A broken value is never replaced by a part of it.

    Returns:
        The parsed value.

    Raises:
        AnswerFormatError: there is no JSON, or it is broken; the place and the text are named.
            ``NaN`` and ``Infinity`` are not JSON.
    """
    visible = split_thinking(text)[1]
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    for part in [visible, *(body for body in _fenced(visible))]:
        try:
            return _decode(decoder, part.strip(), 0, whole=True)[0]
        except (ValueError, RecursionError):
            continue
    found: list[tuple[int, object]] = []
    position = 0
    while (begin := _JSON_BEGIN.search(visible, position)) is not None:
        try:
            value, position = _decode(decoder, visible, begin.start(), whole=False)
        except (ValueError, RecursionError) as exc:
            raise _not_json(str(exc), text) from exc
        found.append((position - begin.start(), value))
    if not found:
        raise _not_json("no { or [ in it", text)
    return max(found, key=lambda item: item[0])[1]


def first_code_block(text: str) -> str:
    """The code in an answer.

    Args:
        text: what the model wrote.

    Returns:
        The first fenced block without its fence, to the end of the text where it is not closed; the
        whole text where there is no fence.
    """
    visible = split_thinking(text)[1]
    return next(_fenced(visible), visible.strip("\n"))


# Where JSON may begin: not the { of {name} nor the [ of [see below].
_JSON_BEGIN = re.compile(r'\{\s*["}]|\[\s*(?:["\[{\]]|-?[0-9]|true\b|false\b|null\b|NaN\b)')


def _decode(decoder: json.JSONDecoder, text: str, begin: int, *, whole: bool) -> tuple[object, int]:
    value, end = decoder.raw_decode(text, begin)
    if whole and text[end:].strip():
        raise ValueError("text after the value")
    return value, end


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _not_json(reason: str, text: str) -> AnswerFormatError:
    raw = " ".join(text.split())
    shown = raw if len(raw) <= 80 else raw[:77] + "..."
    return AnswerFormatError(
        f"the answer is not JSON ({reason}): {shown!r}",
        "Ask for JSON alone, or raise --max-new-tokens where the answer was cut off",
    )


def _fenced(text: str) -> Iterator[str]:
    """The bodies of the fenced blocks."""
    position = 0
    while (begin := _FENCE.search(text, position)) is not None:
        fence = begin["fence"]
        close = re.compile(rf"^[ \t]*{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$", re.MULTILINE)
        end = close.search(text, begin.end())
        body = text[begin.end() : end.start() if end else len(text)]
        yield textwrap.dedent(body.strip("\n"))
        if end is None:
            return
        position = end.end()


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(reversed(list(pattern.finditer(text))), None)


def _after(text: str, start: int, *, sentence: bool) -> str:
    """What follows a marker: the line or the sentence, and where that is empty the next paragraph."""
    line = text[start:].split("\n", 1)[0]
    if line.strip(" \t*_`"):
        end = _SENTENCE_END.search(line) if sentence else None
        return line[: end.start()] if end else line
    following = text[start + len(line) :]
    indent = len(following) - len(following.lstrip())
    paragraph = re.split(r"\n[ \t]*\n", following[indent:], maxsplit=1)[0]
    fence = _FENCE.match(following, indent)
    if fence:
        close = following.find(fence["fence"], fence.end())
        paragraph = following[indent:] if close < 0 else following[indent : close + len(fence["fence"])]
    return line + following[:indent] + paragraph


def _sentence_start(text: str, position: int) -> int:
    """Where the sentence begins that holds the position; the number of a list item belongs to it."""
    line = text.rfind("\n", 0, position) + 1
    stops = [stop.end() for stop in re.finditer(r"[.!?]\s", text[line:position])]
    start = line + max(stops, default=0)
    return line if re.fullmatch(r"\W*(?:step )?\d+\.\s", text[line:start], re.IGNORECASE) else start


def _closing_brace(text: str, start: int) -> int:
    """Where the brace that was opened before start is closed; the end of the text if it is not."""
    depth = 1
    for i in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return i
    return len(text)


def _clean(raw: str) -> str:
    """An answer without the Markdown, LaTeX and full stop around it."""
    text = _LABEL.sub("", raw.strip())  # "The answer is: Answer: 20"
    if _FENCE.match(text):
        return text
    text = re.sub(r"\\(?:text|mathrm|mathbf)\{([^{}]*)\}", r"\1", text)
    before = None
    while text != before:
        before = text
        text = text.strip().strip("*").strip()
        for mark in ("$$", "$", "`", '"', "__"):
            if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
                text = text[len(mark) : -len(mark)]
        if text.startswith((r"\(", r"\[")) and text.endswith((r"\)", r"\]")):
            text = text[2:-2]
        if text.endswith(")") and text.count(")") > text.count("("):
            text = text[:-1]
        if text.endswith(".") and not re.search(r"\.[A-Za-z]?\.$", text):  # not "..." nor "U.S."
            text = text[:-1]
    return text if re.search(r"\w", text) else ""


def _normal(answer: str) -> str:
    """The form in which two answers are compared."""
    text = " ".join(answer.replace("\u2212", "-").split()).casefold()
    text = re.sub(r"\*\*|__|`", "", text).strip(" .,;:!?\"'").removeprefix("$").removesuffix("$").strip()
    number = _NUMBER.fullmatch(text)
    if not number:
        return text
    sign, whole, fraction = number[1], re.sub("[^0-9]", "", number[2]).lstrip("0"), (number[3] or "").rstrip("0")
    # As text, not as a float: two long numbers that differ in the last digit are two answers.
    value = (whole or "0") + (f".{fraction}" if fraction else "")
    return value if value == "0" else sign + value


def _paragraphs(*parts: str) -> str:
    return "\n\n".join(part.strip() for part in parts if part.strip())
