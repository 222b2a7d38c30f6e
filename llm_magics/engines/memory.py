"""How much memory a model needs, how much is free, and giving it back.

Sizes are of the weights alone in the chosen quantization, plus a tenth for activations and the
key/value cache of a normal conversation.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelTooLargeError

WORKING_SHARE = 1.1
BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
# nf4 with double quantization: 4 bits a weight, one 8-bit constant for 64 weights and one 32-bit
# constant for 256 of those (Dettmers et al. 2023, arXiv:2305.14314, section 3).
MATRIX_BYTES = {"nf4": 0.5 + 1 / 64 + 4 / (64 * 256), "int8": 1.0}


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a model, counted before any is loaded.

    Attributes:
        total: number of weights.
        matrices: those of them that quantization shrinks: matrices that are no embedding or head.
    """

    total: int
    matrices: int

    @classmethod
    def count(cls, tensors: Iterable[tuple[str, tuple[int, ...]]]) -> Weights:
        """Count from pairs of tensor name and shape."""
        total = matrices = 0
        for name, shape in tensors:
            size = 1
            for side in shape:
                size *= int(side)
            total += size
            if len(shape) == 2 and not any(
                word in name for word in ("embed", "token_embd", "lm_head", "output.weight")
            ):
                matrices += size
        return cls(total, matrices)

    def bytes(self, quantize: str, dtype: str) -> int:
        """Memory that they take once loaded, in bytes, with room to work."""
        matrix_bytes = MATRIX_BYTES.get(quantize, BYTES[dtype])
        return int((self.matrices * matrix_bytes + (self.total - self.matrices) * BYTES[dtype]) * WORKING_SHARE)


def free_bytes(device: str) -> int:
    """Memory that can be had now, in bytes: of all GPUs for ``cuda``, of one for ``cuda:N``, else RAM."""
    if device.startswith("cuda"):
        import torch

        numbers = [int(device[5:])] if device.startswith("cuda:") else range(torch.cuda.device_count())
        return sum(torch.cuda.mem_get_info(number)[0] for number in numbers)
    import psutil

    return min(int(psutil.virtual_memory().available), _container_room())


def _container_room() -> int:
    """Bytes that a container (cgroup version 2, then 1) still lets this process take; huge outside one.

    File cache that is not in use counts as room: the kernel gives it back first.
    """
    for folder, most, now in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            limit = int(Path(folder, most).read_text())
            used = int(Path(folder, now).read_text())
            stat = dict(line.split() for line in Path(folder, "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # no such version, or "max": no limit
            continue
        return max(0, limit - used + int(stat.get("inactive_file", 0)))
    return sys.maxsize


def used_bytes(device: str) -> int:
    """Memory in use by this process, in bytes: on the GPUs for ``cuda``, else resident in RAM."""
    if device.startswith("cuda"):
        import torch

        return sum(torch.cuda.memory_reserved(number) for number in range(torch.cuda.device_count()))
    import psutil

    return int(psutil.Process().memory_info().rss)


def give_back() -> None:
    """Hand freed memory back to the system: Python's cycles, CUDA's cache, glibc's heap."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        # glibc keeps freed blocks for the next allocation; other C libraries have no such call.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def check_fits(name: str, weights: Weights, quantize: str, dtype: str, device: str, coming_back: int = 0) -> None:
    """Refuse a model that cannot fit.

    Args:
        name: the model, for the message.
        weights: its weights.
        quantize: ``nf4``, ``int8`` or ``none``.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        coming_back: bytes that a model closed before will give back.

    Raises:
        ModelTooLargeError: with both figures and the flag that would fit.
    """
    free = free_bytes(device) + coming_back
    needed = weights.bytes(quantize, dtype)
    if needed <= free:
        return
    ways = [("--dtype bfloat16", "none", "bfloat16"), ("-q int8", "int8", "float16"), ("-q nf4", "nf4", "bfloat16")]
    fitting = next(((flag, size) for flag, q, d in ways if (size := weights.bytes(q, d)) <= free), None)
    hint = (
        f"It would fit with {fitting[0]}: {gigabytes(fitting[1])}"
        if fitting
        else f"In 4 bits it takes {gigabytes(weights.bytes('nf4', 'bfloat16'))}: take a smaller model, or %llm_unload"
    )
    kind = dtype if quantize == "none" else quantize
    raise ModelTooLargeError(f"{name} needs {gigabytes(needed)} as {kind}, and {gigabytes(free)} are free", hint)


def gigabytes(size: int) -> str:
    """``3.2 GB``; below a tenth of a gigabyte ``98 MB``."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"
