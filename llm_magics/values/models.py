"""Models: what to open and how, an open one in figures, and what closing it gave back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What to open, and how. Two equal requests open the same thing.

    Attributes:
        model: alias, Hugging Face Hub id, local folder, path of a ``.gguf`` file, or ``NAME@http://host:8000/v1``.
        quantize: ``auto``, ``nf4`` (4-bit, QLoRA, arXiv:2305.14314), ``int8`` (arXiv:2208.07339) or ``none``.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``: the type of weights that are not quantized.
        device_map: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        revision: branch, tag or commit on the Hub; empty for the default branch.
        chat_template: a Jinja chat template that replaces the tokenizer's own; empty keeps that.
        context: the longest prompt with its answer, in tokens; 0 for the model's own.
        trust_remote_code: whether Python code that comes with the model may run.
        engine: what runs it: ``auto``, ``transformers``, ``llamacpp`` for ``.gguf`` files, or ``server``.
        adapter: folder of a LoRA adapter to put on it; empty for none.
    """

    model: str
    quantize: str = "auto"
    dtype: str = "auto"
    device_map: str = "auto"
    revision: str = ""
    chat_template: str = ""
    context: int = 0
    trust_remote_code: bool = False
    engine: str = "auto"
    adapter: str = ""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """An open model, in the figures that a person asks for.

    Attributes:
        name: what the person calls it.
        source: where it came from: Hub id, folder or file.
        engine: what runs it, such as ``transformers`` or ``llamacpp``.
        device: ``cpu``, ``cuda:0`` and so on; for llama.cpp its own name of a GPU, such as ``CUDA0``; for a server
            its host and port.
        dtype: type of the weights that are not quantized; empty where a server does not tell.
        quantization: ``none``, ``nf4``, ``int8``, or the type of a GGUF file's weights, such as ``Q8_0``.
        parameters: number of weights; 0 where a server does not tell.
        memory: bytes that the weights take here; 0 for a server.
        context: the longest prompt with its answer, in tokens.
        seconds: what opening it took.
        cached: bytes that are kept of earlier prompts, so that they need not be read again; 0 where the engine
            does not tell.
    """

    name: str
    source: str
    engine: str
    device: str
    dtype: str
    quantization: str
    parameters: int
    memory: int
    context: int
    seconds: float
    cached: int = 0


@dataclass(frozen=True, slots=True)
class MemoryFreed:
    """What closing a model gave back, measured and not computed.

    Attributes:
        name: the model's name.
        place: ``GPU`` or ``RAM``.
        before: bytes in use by this process before.
        after: bytes in use after.
        sharing: open models that hold the same weights, by their names; the weights come back with the last.
    """

    name: str
    place: str
    before: int
    after: int
    sharing: tuple[str, ...] = ()
