"""Several prompts at once on a model of transformers.

What all prompts begin with is read once, and its keys and values serve every row. Rows of about the same length
share a batch, padded on the left; between the shared beginning and a row's own tokens the padding is masked out, so
that each row computes what it would compute alone. Numbers differ in their last bits, as in any other order of
adding: where two tokens are equally probable, a greedy answer may take the other one.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import LLMMagicsError, OutOfMemoryError
from ..values.answers import Chunk, StopReason, Usage
from .memory import free_bytes, give_back
from .stop_texts import StopTexts

WORTH_SHARING = 16  # tokens; a shorter beginning costs less to read again than to keep
_ROWS, _ROWS_ON_GPU = 32, 64  # of a batch at most
# Tokens of all rows of a batch on a CPU, prompts and answers: with every token the keys and values of all of them are
# copied. docs/decisions.md, "Batches over a table".
_TOKENS = 4096
_SHARE = 0.4  # of the free memory of a GPU that the keys and values of a batch may take


class StoppedError(Exception):
    """A person stopped the model between two of its layers."""


@dataclass
class Row:
    """One prompt of a batch, and its answer so far.

    Attributes:
        number: its place among the prompts.
        ids: its tokens.
        limit: tokens of the answer at most.
        decode: from each new token to the text that has become certain with it.
        cut: ends the answer at a stop text.
    """

    number: int
    ids: list[int]
    limit: int
    decode: Callable[[int], str]
    cut: StopTexts
    begin: float = 0.0
    first: float = 0.0
    end: float = 0.0
    count: int = 0
    text: str = ""
    reason: StopReason | None = None

    def take(self, token: int, ends: Sequence[int]) -> bool:
        """Add the next token; return whether the answer is complete."""
        if self.reason is not None:
            return True
        self.end = time.perf_counter()
        self.first = self.first or self.end
        self.count += 1
        self.text += self.cut.push(self.decode(token))
        if self.cut.found:
            self.reason = "stop"
        elif token in ends:
            self.reason = "end"
        elif self.count == self.limit:
            self.reason = "length"
        return self.reason is not None

    def chunk(self, cached: int) -> Chunk:
        """The whole answer."""
        usage = Usage(len(self.ids), self.count, self.first - self.begin, self.end - self.begin, cached)
        return Chunk(self.text + self.cut.flush(), usage, self.reason)


@dataclass
class Batches:
    """Answers rows in batches.

    Args:
        model: in eval mode, on its device.
        ends: the model's end tokens.
        arguments: what ``generate`` is called with, from the length of the prompts.
        computing: how to compute: called with the batch's number, gives a context that a stop ends with
            ``StoppedError``.
        stopped: whether to give up what is not complete.
    """

    model: Any
    ends: Sequence[int]
    arguments: Callable[[int], dict[str, Any]]
    computing: Callable[[int], contextlib.AbstractContextManager[None]]
    stopped: Callable[[], bool]
    _number: int = 0
    _prefix: list[int] = field(default_factory=list)
    _known: Any = None  # keys and values of the prefix, one pair of tensors a layer

    def answers(self, rows: Sequence[Row]) -> Iterator[tuple[int, Chunk | LLMMagicsError]]:
        """Each row's number and answer, batch by batch; what is not complete after a stop is left out."""
        with contextlib.suppress(StoppedError):
            self._share([row.ids for row in rows])
        ordered = sorted(rows, key=lambda row: len(row.ids))
        while ordered and not self.stopped():
            size = self._size(ordered)
            batch, ordered = ordered[:size], ordered[size:]
            yield from self._answers(batch)

    def _share(self, prompts: Sequence[list[int]]) -> None:
        prefix = common_prefix(prompts) if len(prompts) > 1 else []
        if len(prefix) >= WORTH_SHARING:
            with contextlib.suppress(OutOfMemoryError), self.computing(0), memory_errors():
                self._known = read(self.model, prefix)
        self._prefix = prefix if self._known is not None else []

    def _answers(self, rows: Sequence[Row]) -> Iterator[tuple[int, Chunk | LLMMagicsError]]:
        """One batch; where memory runs out, its halves one after the other."""
        try:
            self._generate(rows)
        except OutOfMemoryError as error:
            give_back()
            if len(rows) == 1:
                yield rows[0].number, error
                return
            for row in rows:
                row.count, row.text, row.first, row.reason = 0, "", 0.0, None
            for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
                yield from self._answers(half)
            return
        for row in rows:
            if row.reason is not None:
                yield row.number, row.chunk(len(self._prefix))

    def _generate(self, rows: Sequence[Row]) -> None:
        import torch
        from transformers import StoppingCriteria, StoppingCriteriaList

        batches, begin = self, time.perf_counter()
        for row in rows:
            row.begin = begin

        class Watched(StoppingCriteria):
            def __call__(self, input_ids: Any, scores: Any, **unused: Any) -> Any:
                stopped = batches.stopped()
                last = input_ids[:, -1].tolist()
                done = [row.take(token, batches.ends) or stopped for row, token in zip(rows, last, strict=True)]
                return torch.tensor(done, device=input_ids.device)

        ids, mask = self._padded(rows)
        self._number += 1
        with contextlib.suppress(StoppedError), self.computing(self._number), memory_errors():
            self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max(row.limit for row in rows),
                stopping_criteria=StoppingCriteriaList([Watched()]),
                **({"past_key_values": expanded(self._known, len(rows))} if self._known is not None else {}),
                **self.arguments(ids.shape[1]),
            )

    def _padded(self, rows: Sequence[Row]) -> tuple[Any, Any]:
        """Token numbers and mask, (rows, longest): the shared beginning, padding, each row's own tokens."""
        import torch

        begin, longest = len(self._prefix), max(len(row.ids) for row in rows)
        ids, mask = [], []
        for row in rows:
            gap = longest - len(row.ids)
            # Nothing reads the padding but a repetition penalty, and of a token that the row has anyway.
            ids.append([*self._prefix, *([row.ids[0]] * gap), *row.ids[begin:]])
            mask.append([1] * begin + [0] * gap + [1] * (len(row.ids) - begin))
        return torch.tensor(ids, device=self.model.device), torch.tensor(mask, device=self.model.device)

    def _size(self, ordered: Sequence[Row]) -> int:
        """How many of these rows, the shortest first, make the next batch."""
        if self.model.device.type == "cpu":
            most, tokens = _ROWS, _TOKENS
        else:
            most, tokens = _ROWS_ON_GPU, int(free_bytes(str(self.model.device)) * _SHARE / self._token_bytes())
        size = 1
        while size < min(most, len(ordered)):
            if (size + 1) * (len(ordered[size].ids) + ordered[size].limit) > tokens:
                break
            size += 1
        return size

    def _token_bytes(self) -> int:
        """Of the keys and values of one token."""
        config = self.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(2 * config.num_hidden_layers * heads * width * self.model.dtype.itemsize)


def common_prefix(prompts: Sequence[list[int]]) -> list[int]:
    """The tokens that all prompts begin with, at least one of each left out: something must be computed."""
    first, last = min(prompts), max(prompts)  # in the order of lists, so what these share all share
    most = min(map(len, prompts)) - 1
    size = next((place for place in range(most) if first[place] != last[place]), most)
    return first[: max(0, size)]


def read(model: Any, ids: list[int]) -> list[tuple[Any, Any]] | None:
    """Keys and values of tokens, a pair of tensors a layer, (1, heads, tokens, width).

    Args:
        model: in eval mode.
        ids: the tokens, one at least.

    Returns:
        None for a model whose layers keep something else or only a window of it: it cannot share them.
    """
    import torch
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    cache = DynamicCache(config=model.config)
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    model(torch.tensor([ids], device=model.device), past_key_values=cache, use_cache=True, logits_to_keep=1)
    return [(layer.keys, layer.values) for layer in cache.layers]


def expanded(known: Sequence[tuple[Any, Any]], rows: int) -> Any:
    """A cache in which every row begins with the same keys and values. It does not copy them: the first step does."""
    from transformers import DynamicCache

    return DynamicCache([(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)) for keys, values in known])


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Memory that ran out, as our error: without the frames, which hold the tensors that filled it."""
    from .transformers import _out_of_memory

    try:
        yield
    except Exception as error:
        shown = _out_of_memory(error)
        if shown is None:
            raise
        traceback.clear_frames(error.__traceback__)
        raise shown from None
