"""What a GGUF file says of itself: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.

Reading takes seconds, since the reader walks through the whole vocabulary; ``requantized`` keeps
what was read in the user's cache.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MissingPackageError, ModelFileError
from .memory import gigabytes

_PLAIN = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_KV_BYTES = 2  # llama.cpp keeps keys and values in float16


@dataclass(frozen=True, slots=True)
class Header:
    """A GGUF file in figures.

    Attributes:
        context: tokens that the model was made for; 0 where the file does not say.
        parameters: number of weights.
        size: bytes of all weights.
        quantization: the type of most weights, such as ``Q4_1``; ``none`` where that is no quantized type.
        dtype: the type of the weights that are not quantized.
        kv_bytes: bytes that keys and values take for one token of context.
        chat_template: the Jinja chat template; empty where there is none.
        bos: text of the token at the beginning of a text; empty where there is none.
        eos: text of the token at the end of an answer.
        ends: numbers of the tokens that end an answer.
    """

    context: int
    parameters: int
    size: int
    quantization: str
    dtype: str
    kv_bytes: int
    chat_template: str
    bos: str
    eos: str
    ends: tuple[int, ...]


def open_reader(path: Path) -> Any:
    """The file's ``gguf.GGUFReader``, in which every tensor lies inside the file.

    Raises:
        ModelFileError: truncated or damaged.
        MissingPackageError: gguf is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise MissingPackageError("gguf", "llamacpp") from error
    try:
        return gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError, OSError, OverflowError, MemoryError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> ModelFileError:
    return ModelFileError(
        f"{path.name} is damaged or incomplete ({gigabytes(path.stat().st_size)})", "Download it again"
    )


def read_header(path: Path, reader: Any) -> Header:
    """Read a header.

    Args:
        path: the file.
        reader: from ``open_reader``.

    Raises:
        ModelFileError: what it says cannot be.
    """
    try:
        return _read_header(reader)
    except (ValueError, IndexError, KeyError, TypeError, ZeroDivisionError) as error:
        raise _damaged(path) from error


def _read_header(reader: Any) -> Header:
    kinds: Counter[str] = Counter()
    size = 0
    for tensor in reader.tensors:
        kinds[tensor.tensor_type.name] += int(tensor.n_elements)
        size += int(tensor.n_bytes)
    most = max(kinds, key=kinds.__getitem__, default="F32")
    plain = [_PLAIN[kind] for kind, _ in kinds.most_common() if kind in _PLAIN]
    tokens = reader.get_field("tokenizer.ggml.tokens")
    bos, eos, eot = (_value(reader, f"tokenizer.ggml.{name}_token_id", -1) for name in ("bos", "eos", "eot"))
    return Header(
        context=int(_of_model(reader, "context_length", 0)),
        parameters=kinds.total(),
        size=size,
        quantization="none" if most in _PLAIN else most,
        dtype=plain[0] if plain else "float32",
        kv_bytes=_kv_bytes(reader),
        chat_template=str(_value(reader, "tokenizer.chat_template", "")),
        bos=str(tokens.contents(bos)) if tokens and bos >= 0 else "",
        eos=str(tokens.contents(eos)) if tokens and eos >= 0 else "",
        ends=tuple(dict.fromkeys(int(token) for token in (eos, eot) if token >= 0)),
    )


def _kv_bytes(reader: Any) -> int:
    layers = int(_of_model(reader, "block_count", 0))
    heads = _of_model(reader, "attention.head_count", 1)
    kv_heads = _of_model(reader, "attention.head_count_kv", heads)
    most = max(kv_heads) if isinstance(kv_heads, list) else kv_heads  # a list has one number a layer
    width = int(_of_model(reader, "embedding_length", 0)) // int(max(heads) if isinstance(heads, list) else heads)
    key, value = (_of_model(reader, f"attention.{part}_length", width) for part in ("key", "value"))
    return layers * int(most) * (int(key) + int(value)) * _KV_BYTES


def _of_model(reader: Any, name: str, default: Any) -> Any:
    return _value(reader, f"{_value(reader, 'general.architecture', '')}.{name}", default)


def _value(reader: Any, name: str, default: Any) -> Any:
    field = reader.get_field(name)
    return default if field is None else field.contents()
