"""How probable given answers are, for many prompts in one computation of a model of transformers.

What all prompts begin with is read once. The rest of several prompts and all the answers to them then stand behind
one another in one sequence, and a mask lets each token read only what it would read alone: the shared beginning, its
own prompt, and its own answer. So nothing is read twice and nothing is computed for padding. SpecInfer (Miao et al.
2023, arXiv:2305.09781) calls the mask of such a sequence a tree attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .transformers_batch import WORTH_SHARING, common_prefix, expanded, memory_errors, read

_TOKENS = 384  # of one computation: the mask's work grows with its square, and a processor is busy enough from here on


@dataclass(frozen=True)
class Weighed:
    """One prompt and the answers to be weighed, as tokens.

    Attributes:
        number: its place among the prompts.
        prompt: its tokens.
        answers: the tokens of each answer.
    """

    number: int
    prompt: list[int]
    answers: Sequence[list[int]]

    @property
    def size(self) -> int:
        """Tokens of all its answers."""
        return sum(map(len, self.answers))


def can_pack(model: Any) -> bool:
    """Whether the model's attention takes such a mask, its layers keep every token, and it is told their positions."""
    import inspect

    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    layers = DynamicCache(config=model.config).layers
    kind = getattr(model.config, "_attn_implementation", "")
    placed = "position_ids" in inspect.signature(model.forward).parameters  # not where the mask is the position (ALiBi)
    takes = placed and kind in ("sdpa", "eager") and model._supports_logits_to_keep()
    return takes and all(type(layer) is DynamicLayer for layer in layers)


def log_probabilities(model: Any, rows: Sequence[Weighed], ends: Sequence[int]) -> Iterator[tuple[int, list[float]]]:
    """Of each answer, and then any of the end tokens: logarithms, prompt by prompt.

    Args:
        model: one that ``can_pack``, in eval mode.
        rows: prompts with their answers.
        ends: the model's end tokens; with none, what follows an answer does not count.

    Raises:
        OutOfMemoryError: the model stays usable.
    """
    prefix = common_prefix([row.prompt for row in rows])
    prefix = prefix if len(prefix) >= WORTH_SHARING else []
    own = [len(row.prompt) - len(prefix) + row.size for row in rows]
    with memory_errors():
        known = read(model, prefix) if prefix else None
        for pack in _packs([row for row, size in zip(rows, own, strict=True) if size <= _TOKENS], len(prefix)):
            yield from _weigh(model, pack, len(prefix), known, ends)
        for row in (row for row, size in zip(rows, own, strict=True) if size > _TOKENS):
            begin = row.prompt[:-1]  # a mask of the whole of it would take more memory than the model
            yield from _weigh(model, [row], len(begin), read(model, begin), ends)


def after_beginning(model: Any, weighed: Weighed, cache: Any, ends: Sequence[int]) -> list[float]:
    """Logarithms for the answers to one prompt of which all but the last token has been read.

    Args:
        model: one that ``can_pack``, in eval mode.
        weighed: the prompt with its answers.
        cache: keys and values of all its tokens but the last; it stays as it is.
        ends: as for ``log_probabilities``.
    """
    begin = len(weighed.prompt) - 1
    known = [(layer.keys[..., :begin, :], layer.values[..., :begin, :]) for layer in cache.layers] if begin else None
    ((_, found),) = _weigh(model, [weighed], begin, known, ends)
    return found


def _packs(rows: Sequence[Weighed], begin: int) -> Iterator[list[Weighed]]:
    pack: list[Weighed] = []
    size = 0
    for row in rows:
        more = len(row.prompt) - begin + row.size
        if pack and size + more > _TOKENS:
            yield pack
            pack, size = [], 0
        pack.append(row)
        size += more
    if pack:
        yield pack


def _weigh(
    model: Any, pack: Sequence[Weighed], begin: int, known: Any, ends: Sequence[int]
) -> Iterator[tuple[int, list[float]]]:
    import torch

    ids, places, reads, wanted = _lay_out(pack, begin)
    mask = torch.zeros((len(ids), begin + len(ids)), dtype=torch.bool)
    mask[:, :begin] = True
    for token, spans in enumerate(reads):
        for first, last in spans:
            mask[token, begin + first : begin + last] = True
    hidden = torch.zeros(mask.shape, dtype=model.dtype).masked_fill(~mask, torch.finfo(model.dtype).min)
    device = model.device
    keep = sorted({place for steps in wanted for answer in steps for place, _ in answer})
    logits = model(
        torch.tensor([ids], device=device),
        position_ids=torch.tensor([places], device=device),
        attention_mask=hidden[None, None].to(device),
        past_key_values=expanded(known, 1) if known is not None else None,
        use_cache=known is not None,
        logits_to_keep=torch.tensor(keep, device=device),
    ).logits[0]
    logs = torch.log_softmax(logits.float(), dim=-1)
    row_of = {place: row for row, place in enumerate(keep)}
    for weighed, steps in zip(pack, wanted, strict=True):
        yield weighed.number, [_total(logs, row_of, answer, ends) for answer in steps]


Steps = list[tuple[int, int | None]]
"""What is weighed for one answer: after which place of the sequence, and which token; None for any end token."""


def _lay_out(
    pack: Sequence[Weighed], begin: int
) -> tuple[list[int], list[int], list[list[tuple[int, int]]], list[list[Steps]]]:
    """The sequence: tokens, their positions, the spans of it that each reads, and what is weighed for each prompt."""
    ids: list[int] = []
    places: list[int] = []
    reads: list[list[tuple[int, int]]] = []
    wanted: list[list[Steps]] = []
    for weighed in pack:
        own, start = weighed.prompt[begin:], len(ids)
        ids += own
        places += range(begin, begin + len(own))
        reads += [[(start, start + n + 1)] for n in range(len(own))]
        last, steps = len(ids) - 1, []
        for answer in weighed.answers:
            first = len(ids)
            ids += answer
            places += range(begin + len(own), begin + len(own) + len(answer))
            reads += [[(start, last + 1), (first, first + n + 1)] for n in range(len(answer))]
            before = [last, *range(first, first + len(answer))]
            steps.append(list(zip(before, [*answer, None], strict=True)))
        wanted.append(steps)
    return ids, places, reads, wanted


def _total(logs: Any, row_of: dict[int, int], steps: Steps, ends: Sequence[int]) -> float:
    import torch

    total = 0.0
    for place, token in steps:
        row = logs[row_of[place]]
        if token is not None:
            total += float(row[token])
        elif ends:
            total += float(torch.logsumexp(row[list(ends)], dim=0))
    return total
