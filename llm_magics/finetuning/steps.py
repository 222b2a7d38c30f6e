"""Optimizer steps of a job, counted before it starts as its trainer will come to them."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence

from ..values.training import TrainingRequest

LEAST_BLOCK = 32
"""Tokens of AutoTrain's blocks, at least."""
_PACKED_AT_ONCE = 1000  # rows: TRL packs those that ``datasets`` hands it together


def passes(request: TrainingRequest) -> float:
    """How often every row is seen: AutoTrain takes whole epochs.

    Args:
        request: with its choices made.
    """
    epochs = request.epochs or 1
    return math.ceil(epochs) if request.backend == "autotrain" else epochs


def count_steps(request: TrainingRequest, lengths: Sequence[int]) -> int:
    """Optimizer steps of a job, as transformers' Trainer counts them.

    Args:
        request: with its choices made.
        lengths: tokens of each row that is trained on.
    """
    world = request.processes * request.nodes
    batches = math.ceil(count_texts(request, lengths) / ((request.batch_size or 1) * world))
    a_step = request.gradient_accumulation
    # AutoTrain's transformers 4 leaves out the step that an epoch's last batches do not fill.
    an_epoch = batches // a_step if request.backend == "autotrain" else math.ceil(batches / a_step)
    return max(1, math.ceil(passes(request) * max(1, an_epoch)))


def count_texts(request: TrainingRequest, lengths: Sequence[int]) -> int:
    """What batches are made of: rows, or the whole blocks that they are joined to, of which there may be none.

    Args:
        request: with its choices made.
        lengths: tokens of each row that is trained on.
    """
    most = request.max_length or max(lengths)
    if request.backend == "autotrain":
        joined = sum(lengths) + len(lengths)  # an end token stands behind every row
        return joined // block_size(sum(lengths), max(lengths), most)
    if request.packing:
        begins = range(0, len(lengths), _PACKED_AT_ONCE)
        return sum(_packed(lengths[begin : begin + _PACKED_AT_ONCE], most) for begin in begins)
    return len(lengths)


def longest_text(request: TrainingRequest, rows: int, longest: int) -> int:
    """Tokens of the longest text of a batch: of a row, or of the blocks that rows are joined to.

    Args:
        request: with its choices made.
        rows: how many are trained on.
        longest: tokens of the longest row.
    """
    most = request.max_length or longest
    if request.backend == "autotrain":
        return block_size(rows * longest, longest, most)
    return most if request.packing else longest


def _packed(lengths: Sequence[int], most: int) -> int:
    """Blocks that hold the rows whole: the longest first, each where it leaves the least room (as TRL's ``bfd``)."""
    count, rooms = 0, list[int]()
    for length in sorted(lengths, reverse=True):
        at = bisect_left(rooms, length)
        count += at == len(rooms)
        room = rooms.pop(at) if at < len(rooms) else most
        insort(rooms, room - length)
    return count


def block_size(tokens: int, longest: int, most: int) -> int:
    """Tokens of AutoTrain's blocks: it joins all rows and cuts them, and a set shorter than one block fails.

    Args:
        tokens: of all rows.
        longest: of the longest row.
        most: the longest that was asked for.
    """
    fitting = 1 << max(0, math.ceil(math.log2(max(1, longest))))
    while fitting > LEAST_BLOCK and (fitting > most or fitting * 8 > tokens):
        fitting //= 2
    return max(LEAST_BLOCK, fitting)
