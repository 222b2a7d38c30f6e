"""The ``%%fewshot`` cell: an instruction, worked examples, a question.

The grammar, from the cell's top to its end::

    Classify the text into neutral, negative or positive.       the instruction, one line or more
    I think the food was alright. => Neutral                    an example on one line
    The waiter ignored us. => Negative
    I think the food was okay.                                  the question: no => here

A line of ``---`` ends a block, for examples and questions of more than one line. In such a block a
line that begins with ``=>`` parts input from output, so that code with ``=>`` inside is safe::

    Say what the code returns.
    ---
    const f = x => x + 1
    f(2)
    => 3
    ---
    const g = x => 2 * x
    g(4)

``\\=>`` is an arrow that belongs to the text. Where a cell can be read in two ways it is refused:
an example that is read wrongly would spoil the answer without a sign.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError
from ..values.messages import Example, Message
from .plain import system_turn, trim

# Not the arrow of \=>, of <=> or of ==>.
_ARROW = re.compile(r"(?<![\\=<])=>")
_RULE = re.compile(r"-{3,}")


@dataclass(frozen=True)
class FewShotCell:
    """What a ``%%fewshot`` cell says.

    Attributes:
        instruction: what to do; may be empty.
        examples: the worked examples, in the cell's order; may be empty.
        question: what is to be answered.
    """

    instruction: str
    examples: tuple[Example, ...]
    question: str


@dataclass(frozen=True)
class _Line:
    number: int
    text: str

    @property
    def arrows(self) -> int:
        return len(_ARROW.findall(self.text))

    @property
    def begins_with_arrow(self) -> bool:
        return _ARROW.match(self.text.lstrip()) is not None


_Block = Sequence[_Line]


def parse_cell(text: str) -> FewShotCell:
    """Read a ``%%fewshot`` cell.

    Args:
        text: the cell's body, in the grammar at the top of this module. A cell of one line is the
            question alone, and one without any ``=>`` an instruction and a question: examples may
            come from elsewhere. A last line that ends in ``=>`` is the question too.

    Returns:
        The instruction, the examples and the question, arrows typed ``\\=>`` turned into ``=>``.

    Raises:
        InputError: the cell is empty, has no question, or can be read in two ways; the line is named.
    """
    blocks = _blocks(text)
    if not any(blocks):
        raise InputError(
            "the %%fewshot cell is empty",
            "Type an instruction, examples such as: ignored us => Negative, and a question",
        )
    if len(blocks) == 1:
        return _parse_lines(blocks[0])
    instruction, examples = _first_block(blocks[0])
    *between, last = [block for block in blocks[1:] if block]
    for block in between:
        examples += _examples_of(block)
    if _is_question(last, after_examples=bool(examples)):
        return FewShotCell(instruction, tuple(examples), _question(last))
    raise _no_question()


def build(cell: FewShotCell, *, system: str = "") -> tuple[Message, ...]:
    """The messages of ``%%fewshot``: in-context learning, Brown et al. 2020 (arXiv:2005.14165).

    Each example is a turn of the person and one of the model, so that the chat template marks where
    an answer ends. The instruction stands in front of every input.

    Args:
        cell: what to do, the examples, and the question.
        system: the system text; empty leaves the turn out.

    Returns:
        The messages, the question last.
    """

    def asked(text: str) -> Message:
        return Message("user", f"{cell.instruction}\n\n{text}" if cell.instruction else text)

    turns: list[Message] = []
    for example in cell.examples:
        turns += [asked(example.input), Message("assistant", example.output)]
    return (*system_turn(system), *turns, asked(cell.question))


def _no_question() -> InputError:
    return InputError(
        "the cell has no question",
        r"End it with the text to be answered, without =>. An arrow that belongs to the text is typed \=>",
    )


def _blocks(text: str) -> list[list[_Line]]:
    """The cell cut at its lines of ``---``; blank lines around a block are dropped, numbers are kept."""
    blocks: list[list[_Line]] = [[]]
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if _RULE.fullmatch(line.strip()):
            blocks.append([])
        else:
            blocks[-1].append(_Line(number, line.rstrip()))
    for block in blocks:
        while block and not block[-1].text:
            block.pop()
        while block and not block[0].text:
            del block[0]
    while len(blocks) > 1 and not blocks[-1]:
        # A rule at the very end closes the last block and opens none.
        blocks.pop()
        if len(blocks) == 1 and any(line.begins_with_arrow for line in blocks[0]):
            raise _no_question()
    return blocks


def _parse_lines(block: _Block) -> FewShotCell:
    """A cell without ``---``: instruction lines, one-line examples, question lines."""
    lines = [line for line in block if line.text]
    for line in lines:
        if line.begins_with_arrow:
            raise InputError(
                f"line {line.number} begins with =>", "Put a line of --- before and after an example of several lines"
            )
    with_arrow = [i for i, line in enumerate(lines) if line.arrows and not _asks(line, last=line is lines[-1])]
    if not with_arrow:
        return _without_examples(block)
    first, last = with_arrow[0], with_arrow[-1]
    for line in lines[first:last]:
        if not line.arrows:
            raise InputError(
                f"line {line.number} stands between examples and has no =>",
                "Put a line of --- before and after an example of several lines",
            )
    if last == len(lines) - 1:
        raise _no_question()
    instruction = [line for line in block if line.number < lines[first].number]
    question = [line for line in block if line.number > lines[last].number]
    examples = [_one_line(line) for line in lines[first : last + 1]]
    return FewShotCell(_join(instruction), tuple(examples), _question(question))


def _without_examples(block: _Block) -> FewShotCell:
    if len(block) == 1:
        return FewShotCell("", (), _question(block))
    return FewShotCell(_join(block[:1]), (), _question(block[1:]))


def _first_block(block: _Block) -> tuple[str, list[Example]]:
    """The instruction, and the examples that follow it before the first ``---``."""
    begin = [i for i, line in enumerate(block) if line.begins_with_arrow]
    if begin:
        # "review text / => positive" right under an instruction of one line, without --- between.
        if begin[0] == 0:
            raise InputError(f"line {block[0].number} begins with =>", "Type the example's input in the line before it")
        cut = 1 if begin[0] > 1 else 0
        return _join(block[:cut]), _examples_of(block[cut:])
    first = next((i for i, line in enumerate(block) if line.arrows), len(block))
    examples = block[first:]
    for line in examples:
        if line.text and not line.arrows:
            raise InputError(
                f"line {line.number} follows an example and has no =>",
                "Put a line of --- before an example of several lines",
            )
    return _join(block[:first]), [_one_line(line) for line in examples if line.text]


def _examples_of(block: _Block) -> list[Example]:
    """The examples of a block between two ``---``: one of several lines, or several of one line."""
    lines = [line for line in block if line.text]
    begin = [i for i, line in enumerate(block) if line.begins_with_arrow]
    if len(begin) == 1:
        output = [_Line(block[begin[0]].number, _ARROW.sub("", block[begin[0]].text, count=1).strip())]
        return [_example(block[0].number, block[: begin[0]], [*output, *block[begin[0] + 1 :]])]
    if not begin and all(line.arrows for line in lines):
        return [_one_line(line) for line in lines]
    if not begin and sum(line.arrows for line in lines) == 1:
        at = next(i for i, line in enumerate(block) if line.arrows)
        left, right = _ARROW.split(block[at].text)
        number = block[at].number
        return [_example(number, [*block[:at], _Line(number, left)], [_Line(number, right), *block[at + 1 :]])]
    if not any(line.arrows for line in lines):
        raise InputError(
            f"the block at line {lines[0].number} has no =>", "Put a line that begins with => before its output"
        )
    raise InputError(
        f"the block at line {lines[0].number} has more than one =>",
        r"Begin one line with => where the output starts, and type \=> for arrows that belong to the text",
    )


def _one_line(line: _Line) -> Example:
    if line.arrows > 1:
        raise InputError(f"line {line.number} has more than one =>", r"Type \=> for the arrows that belong to the text")
    left, right = _ARROW.split(line.text)
    return _example(line.number, [_Line(line.number, left.strip())], [_Line(line.number, right.strip())])


def _example(number: int, left: _Block, right: _Block) -> Example:
    example = Example(_join(left), _join(right))
    if not example.input.strip():
        raise InputError(f"the example at line {number} has nothing before =>", "Type its input there")
    if not example.output.strip():
        raise InputError(f"the example at line {number} has nothing after =>", "Type its output there")
    return example


def _asks(line: _Line, *, last: bool) -> bool:
    """Whether it is a question that ends in a bare ``=>``, the way completion prompts are written."""
    return last and line.arrows == 1 and _ARROW.split(line.text)[1].strip() == ""


def _is_question(block: _Block, *, after_examples: bool) -> bool:
    """Whether the last block asks. One that holds arrows within several lines is code that asks."""
    lines = [line for line in block if line.text]
    begin = [line for line in lines if line.begins_with_arrow]
    if begin:
        return begin[-1] is lines[-1] and len(begin) == 1 < len(lines) and _asks(begin[0], last=True)
    arrows = [line for line in lines if line.arrows]
    if not arrows or (len(lines) == 1 and _asks(lines[0], last=True)):
        return True
    return len(lines) > 1 and (after_examples or len(arrows) < len(lines))


def _question(block: _Block) -> str:
    *lines, last = block
    if _asks(last, last=True):
        last = _Line(last.number, _ARROW.split(last.text)[0])
    text = _join([*lines, last])
    if not text:
        raise _no_question()
    return text


def _join(block: _Block) -> str:
    text = trim("\n".join(line.text for line in block)).replace(r"\=>", "=>")
    return text if "\n" in text else text.strip()
