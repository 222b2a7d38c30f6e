"""One base, several adapters: models of their own names that share the base's weights.

The adapters lie beside the base's matrices (LoRA, Hu et al. 2021, arXiv:2106.09685) and are switched on for
the answers of their own model alone. Where they are off, the base computes exactly what it did before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import BusyError, LLMMagicsError, MissingPackageError, ModelFileError
from ..quiet import quiet
from ..values.answers import Chunk
from ..values.asking import GenerationOptions
from ..values.messages import Prompt
from ..values.models import ModelInfo
from .memory import give_back
from .transformers import TransformersEngine


class Adapters:
    """The adapters of one base, of which at most one works at a time.

    Args:
        engine: the base. From now on it answers through ``base``.
    """

    def __init__(self, engine: TransformersEngine) -> None:
        self._engine = engine
        self._tuned: Any = None  # PEFT's view of the same model; None before the first adapter
        self._lock = threading.Lock()
        # By their names, what PEFT calls them: it makes attributes of modules of that, and there a name such as
        # ``train`` is taken and one with a dot is refused. The base has none.
        self._open = {"": ""}
        self._numbers = itertools.count(1)
        self._closed: list[str] = []  # of those, what was closed while another answered

    @property
    def base(self) -> SharedEngine:
        """The base as an engine, with every adapter off."""
        return SharedEngine(self._engine, self, "", self._engine.info())

    def add(self, name: str, folder: str) -> SharedEngine:
        """Open an adapter. One of that name is replaced; it stays where the new one cannot be opened.

        Args:
            name: what the tuned model is called.
            folder: as PEFT's ``save_pretrained`` wrote it.

        Raises:
            ModelFileError: no adapter, a damaged one, or one for another base.
            BusyError: the base or one of its adapters is answering.
            MissingPackageError: peft is not installed.
        """
        try:
            with quiet():
                import peft  # noqa: F401
        except ImportError as error:
            raise MissingPackageError("peft", "finetune") from error
        if not all(Path(folder, file).is_file() for file in ("adapter_config.json", "adapter_model.safetensors")):
            raise ModelFileError(
                f"{folder} is no adapter: adapter_config.json or adapter_model.safetensors is missing",
                "Give the folder adapter of a fine-tuning job",
            )
        with self._alone(name), quiet(), _one_line_errors(name, folder):
            model, key = self._engine._model, f"adapter{next(self._numbers)}"
            before = model.get_memory_footprint()
            if self._tuned is None:
                self._tuned = self._first(model, key, folder)
            else:
                self._another(key, folder)
            size = max(0, model.get_memory_footprint() - before)
            self._engine._prefixes.forget(name)
            self._delete(self._open.get(name, ""))
            self._open[name] = key
            self._tuned.base_model.disable_adapter_layers()
        source = folder.removesuffix(f"{os.sep}adapter")  # of a job: its folder has the name that a person knows
        info = dataclasses.replace(self._engine.info(), name=name, source=source, memory=size)
        return SharedEngine(self._engine, self, name, info)

    @staticmethod
    def _first(model: Any, key: str, folder: str) -> Any:
        """The model with its first adapter; where that does not fit, the model is left without any."""
        from peft import PeftConfig, PeftModel

        tuned = PeftModel(model, PeftConfig.from_pretrained(folder), adapter_name=key)
        try:
            tuned.load_adapter(folder, adapter_name=key)
        except BaseException:
            tuned.unload()  # its matrices would be in the way of every answer of the base
            raise
        return tuned.eval()

    def _another(self, key: str, folder: str) -> None:
        """One more adapter; of one that does not fit nothing is left."""
        try:
            self._tuned.load_adapter(folder, adapter_name=key)
        except BaseException:
            self._delete(key)
            raise

    @contextlib.contextmanager
    def switched_to(self, name: str) -> Iterator[None]:
        """With one adapter on, or all off where the name is empty. Off again afterwards.

        Raises:
            BusyError: the base or one of its adapters is answering.
        """
        with self._alone(name or self._engine.info().name):
            if not name:
                yield
                return
            tuner = self._tuned.base_model
            self._tuned.set_adapter(self._open[name])
            tuner.enable_adapter_layers()
            try:
                yield
            finally:
                tuner.disable_adapter_layers()

    @contextlib.contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            raise BusyError(f"{name} shares its weights with a model that is answering", "Stop that cell first")
        try:
            yield
        finally:
            try:
                while self._closed:
                    self._delete(self._closed.pop())
            finally:
                self._lock.release()

    def _delete(self, key: str) -> None:
        if self._tuned is not None and key in self._tuned.peft_config:
            with quiet():  # PEFT says which adapter it takes for the active one now; each answer switches its own on
                self._tuned.delete_adapter(key)

    def close(self, name: str) -> None:
        """Close one of the models; the weights are freed with the last. Where another answers meanwhile, this one's
        adapter is freed when that has ended."""
        if name not in self._open:
            return
        self._closed.append(self._open.pop(name))
        with contextlib.suppress(BusyError), self._alone(name):
            pass
        if not self._open:
            self._tuned = None
            self._engine.close()
        give_back()


class SharedEngine(TransformersEngine):
    """A base or one of its adapters. Made by ``Adapters``.

    Args:
        engine: whose weights it shares.
        adapters: who switches.
        adapter: its adapter; empty for the base.
        info: its figures.
    """

    def __init__(self, engine: TransformersEngine, adapters: Adapters, adapter: str, info: ModelInfo) -> None:
        # One limit for what all of them have read; each finds what it has read itself.
        super().__init__(engine._model, engine._tokenizer, info, engine._prefixes)
        self._adapters = adapters
        self._adapter = adapter

    @property
    def adapters(self) -> Adapters:
        """Its base's adapters, for another one."""
        return self._adapters

    @property
    def is_tuned(self) -> bool:
        """Whether it has an adapter on; the base has not."""
        return bool(self._adapter)

    def stream(self, prompt: Prompt, options: GenerationOptions, stop: threading.Event) -> Iterator[Chunk]:
        """Answer, token by token. See ``Engine.stream``."""
        with self._adapters.switched_to(self._adapter):
            yield from super().stream(prompt, options, stop)

    def stream_batch(
        self, prompts: Sequence[Prompt], options: GenerationOptions, stop: threading.Event
    ) -> Iterator[tuple[int, Chunk | LLMMagicsError]]:
        """Answer several prompts. See ``BatchEngine.stream_batch``."""
        with self._adapters.switched_to(self._adapter):
            yield from super().stream_batch(prompts, options, stop)

    def score(self, prompt: Prompt, choices: Sequence[str], stop: threading.Event) -> tuple[float, ...]:
        """Probability of each choice. See ``TransformersEngine.score``."""
        with self._adapters.switched_to(self._adapter):
            return super().score(prompt, choices, stop)

    def score_batch(
        self, prompts: Sequence[Prompt], choices: Sequence[str], stop: threading.Event
    ) -> Iterator[tuple[int, tuple[float, ...] | LLMMagicsError]]:
        """Probability of each choice for several prompts. See ``BatchScorer.score_batch``."""
        with self._adapters.switched_to(self._adapter):
            yield from super().score_batch(prompts, choices, stop)

    def close(self) -> None:
        """Close this model; the weights stay while another that shares them is open."""
        self._model = self._tokenizer = None
        self._prefixes.forget(self._adapter)
        self._adapters.close(self._adapter)


@contextlib.contextmanager
def _one_line_errors(name: str, folder: str) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        if "size mismatch" in str(error) or "not found in the base model" in str(error):
            raise ModelFileError(
                f"{name} was trained on another base",
                f"Look at base_model_name_or_path in {folder}/adapter_config.json",
            ) from error
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelFileError(f"the adapter {folder} cannot be opened: {reason[:200]}", "Train it again") from error
