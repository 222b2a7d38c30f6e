"""A model that a session has open."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from .engines.base import Engine, PrefixKeeper, Scorer
from .values.models import MemoryFreed, ModelInfo, ModelRequest

if TYPE_CHECKING:
    from .engines.resolve import Source


@dataclasses.dataclass
class OpenModel:
    """A loaded model, where it came from and how it was asked for, and the lock of the cell it is answering."""

    engine: Engine
    info: ModelInfo
    origin: tuple[Source, ModelRequest] | None
    stops: tuple[str, ...] = ()
    busy: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    @property
    def figures(self) -> ModelInfo:
        """The model in figures, with what it keeps of earlier prompts now."""
        if not isinstance(self.engine, PrefixKeeper):
            return self.info
        return dataclasses.replace(self.info, cached=self.engine.cached_bytes())

    @property
    def weighs_choices(self) -> bool:
        """Whether it gives the probabilities of choices."""
        return isinstance(self.engine, Scorer)

    @property
    def identity(self) -> list[object]:
        """What tells it from another of its name, as JSON values: origin, precision, and its files."""
        info = self.info
        path = Path(info.source)
        files = [path] if path.is_file() else sorted(path.iterdir()) if path.is_absolute() and path.is_dir() else []
        stamps = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]
        origin = [info.source or info.name, info.engine, info.dtype, info.quantization, info.parameters]
        return [*([info.name] if not files else []), *origin, stamps]

    def limit_cache(self, size: int) -> None:
        """Bound what it keeps of earlier prompts, where it keeps any.

        Args:
            size: bytes at most.
        """
        if isinstance(self.engine, PrefixKeeper):
            self.engine.limit_cache(size)

    def close(self) -> MemoryFreed:
        """Close it, and measure the memory that comes back."""
        from .engines import memory

        memory.give_back()
        device = "cpu" if self.info.engine == "server" else self.info.device  # a server's is not ours
        before = memory.used_bytes(device)
        self.engine.close()
        memory.give_back()
        place = "GPU" if device.startswith("cuda") else "RAM"
        return MemoryFreed(self.info.name, place, before, memory.used_bytes(device))
