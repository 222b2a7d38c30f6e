"""What a transformers model has read before, so that a prompt with the same beginning costs only what is new.

The keys and values of a causal model's attention depend on a token and the ones before it alone. Those of the last
conversations are kept, the longest common beginning of a new prompt is taken from them, and the model reads the rest:
few-shot examples, the turns of a chat, passages that were asked about before. Tokens are compared, not texts.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from .memory import free_bytes

LEAST = 16  # tokens: what a shorter beginning saves, such as that of a template's own words, nobody would notice


@dataclass(slots=True)
class Reading:
    """A prompt that is being read and answered.

    Attributes:
        model: whose weights read it: the name of an adapter, empty for the base.
        ids: the prompt's tokens; those of the answer are appended as they come.
        known: how many of the prompt's tokens need not be read again.
        cache: their keys and values, for the model to go on with; None where the model's cannot be cut.
    """

    model: str
    ids: list[int]
    known: int
    cache: Any


@dataclass(frozen=True, slots=True)
class _Kept:
    model: str
    ids: list[int]
    cache: Any
    size: int


class PrefixCache:
    """The keys and values of the last prompts and answers, of one set of weights and its adapters.

    Args:
        model: the causal language model that makes and takes them.
        limit: bytes that they may take; 0 keeps nothing. What was used longest ago goes first.
    """

    def __init__(self, model: Any, limit: int = 2**30) -> None:
        self._config = model.config.get_text_config(decoder=True)
        self._device = model.device.type
        self._usable = _can_be_cut(model)
        self._limit = limit
        self._kept: list[_Kept] = []  # the one used last stands last
        self._lock = threading.Lock()

    def size(self, model: str) -> int:
        """Bytes that are kept for a model.

        Args:
            model: name of an adapter, empty for the base.
        """
        return sum(kept.size for kept in self._kept if kept.model == model)

    def limit(self, limit: int) -> None:
        """Keep at most this from now on.

        Args:
            limit: in bytes, for all models together.
        """
        with self._lock:
            self._limit = limit
            self._make_room()

    def forget(self, model: str) -> None:
        """Drop what was kept for a model, because its weights are gone or changed.

        Args:
            model: name of an adapter, empty for the base.
        """
        with self._lock:
            self._kept = [kept for kept in self._kept if kept.model != model]

    def clear(self) -> bool:
        """Drop everything. Returns whether there was anything."""
        with self._lock:
            some = bool(self._kept)
            self._kept = []
        return some

    @contextlib.contextmanager
    def reading(self, model: str, ids: Sequence[int], least: int = LEAST) -> Iterator[Reading]:
        """Read a prompt and answer it; what was read and written by the end is kept.

        A run that breaks off leaves some layers a step ahead of others. What all of them have is whole, and kept.

        Args:
            model: who reads it.
            ids: the prompt's tokens.
            least: a known beginning of fewer tokens is read again.
        """
        reading = self._begin(model, list(ids), least) if self._usable else Reading(model, list(ids), 0, None)
        try:
            yield reading
        finally:
            if self._usable:
                self._keep(reading)

    def _begin(self, model: str, ids: list[int], least: int) -> Reading:
        with self._lock:
            same = [(_common(kept.ids, ids), kept) for kept in self._kept if kept.model == model]
            length, best = max(same, key=lambda pair: pair[0], default=(0, None))
            length = min(length, len(ids) - 1)  # the last token is read in any case: it says what comes next
            if best is None or length < least:
                return Reading(model, ids, 0, _beginning(self._config))
            self._kept.remove(best)
            if length < len(best.ids) / 2:  # more would be lost than is used: another conversation that begins alike
                self._kept.append(best)
            return Reading(model, ids, length, _beginning(self._config, best.cache, length))

    def _keep(self, reading: Reading) -> None:
        cache, ids = reading.cache, reading.ids
        length = min(_length(cache), len(ids))
        with self._lock:
            ids = ids[:length]
            if not ids or any(kept.model == reading.model and kept.ids[:length] == ids for kept in self._kept):
                return
            cut = _beginning(self._config, cache, length)
            size = _size(cut)
            if size > self._limit:  # the beginning is worth most
                length = length * self._limit // size
                cut = _beginning(self._config, cut, length, copy=True)
                size = _size(cut)
            self._kept = [k for k in self._kept if k.model != reading.model or ids[: len(k.ids)] != k.ids]
            self._kept.append(_Kept(reading.model, ids[:length], cut, size))
            self._make_room()

    def _make_room(self) -> None:
        limit = self._limit
        if self._device == "cpu":  # where RAM ends the system kills the process, and no error could be caught
            limit = min(limit, (sum(kept.size for kept in self._kept) + free_bytes("cpu")) // 2)
        while self._kept and sum(kept.size for kept in self._kept) > limit:
            del self._kept[0]


def _can_be_cut(model: Any) -> bool:
    """Whether the keys and values of a beginning are the same whatever comes after it.

    They are not where layers forget (sliding windows, recurrent states), nor where the rotary embedding changes with
    the prompt's length.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    config = model.config.get_text_config(decoder=True)
    takes = "past_key_values" in inspect.signature(model.forward).parameters and model._supports_default_dynamic_cache()
    if not takes or model.config.is_encoder_decoder or model.is_remote_code():
        return False
    rotary = getattr(config, "rope_parameters", None) or {}
    kinds = {str(part.get("rope_type")) for part in (rotary, *rotary.values()) if isinstance(part, dict)}
    if any("dynamic" in kind or kind == "longrope" for kind in kinds):
        return False
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)


def _beginning(config: Any, cache: Any = None, length: int = 0, *, copy: bool = False) -> Any:
    """A cache of its own with the first tokens of another.

    The model makes new tensors as it goes on, so the two may share theirs; a copy frees the rest of the other's.
    """
    from transformers import DynamicCache

    new = DynamicCache(config=config)
    if not length:
        return new
    for layer, old in zip(new.layers, cache.layers, strict=True):
        keys, values = old.keys[..., :length, :], old.values[..., :length, :]
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = (keys.clone(), values.clone()) if copy else (keys, values)
    return new


def _tensors(cache: Any) -> list[Any]:
    return [tensor for layer in cache.layers if layer.is_initialized for tensor in (layer.keys, layer.values)]


def _length(cache: Any) -> int:
    """Tokens that every layer has."""
    if not all(layer.is_initialized for layer in cache.layers):
        return 0
    return min((int(tensor.shape[-2]) if tensor.numel() else 0 for tensor in _tensors(cache)), default=0)


def _size(cache: Any) -> int:
    return sum(int(tensor.untyped_storage().nbytes()) for tensor in _tensors(cache))


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
