"""GGUF files for llama.cpp: looked at once, and where that pays written anew as Q8_0, once.

What a file says of itself is kept beside it in the user's cache, since reading it takes seconds.
llama.cpp ends the whole process over some damaged files, so each file is opened in a process of its
own before it is opened here for the first time.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..cache_folders import cache_folder
from ..errors import ModelFileError, ModelTooLargeError
from .cache import fingerprint, new_folder
from .gguf_header import Header, open_reader, read_header
from .memory import gigabytes

# Types without fast matrix kernels in llama.cpp's CPU build: docs/decisions.md, "llama.cpp".
_SLOW = ("Q4_1", "Q5_1")
# Bytes as Q8_0 up to which it is done: a larger model is bound by memory bandwidth, where twice the bytes cost
# what the kernels gain.
_LARGEST = 2_000_000_000
_Q8_0 = 7  # the number of general.file_type for "mostly Q8_0"

_TRY = """
import os, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.verbosity, params.warmup, params.n_gpu_layers = sys.argv[1], 1, False, 0
params.n_ctx, params.fit_params = 64, False
params.hostnames = [sys.argv[2]]
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
os._exit(0)  # a server that is closed before it has begun to wait for work waits for ever
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """A GGUF file that llama.cpp can open.

    Attributes:
        path: the file to open: the person's, or one in the cache.
        header: what it holds.
    """

    path: Path
    header: Header


def checked(path: Path, socket: str, *, requantize: bool, say: Callable[[str], None]) -> Checked:
    """The file, looked at, and as Q8_0 where llama.cpp reads prompts faster with that.

    Args:
        path: the ``.gguf`` file.
        socket: a free path for a Unix socket, used by the process that tries the file.
        requantize: whether a Q8_0 file may be made.
        say: told in one line what takes long.

    Raises:
        ModelFileError: truncated, damaged, or nothing that llama.cpp knows.
    """
    folder = cache_folder("llamacpp") / f"{path.stem}-{fingerprint(path)}"
    fast = folder.with_name(f"{folder.name}-Q8_0")
    if requantize and (header := _kept(fast)) is not None and (fast / "model.gguf").is_file():
        return Checked(fast / "model.gguf", header)
    header, reader = _kept(folder), None
    if header is None:
        reader = open_reader(path)
        header = read_header(path, reader)
        _try(path, socket)
        _keep(folder, path, header)
    if not requantize or header.quantization not in _SLOW:
        return Checked(path, header)
    reader = reader or open_reader(path)
    if reader.get_field("split.count") is not None or header.parameters * 17 // 16 > _LARGEST:
        return Checked(path, header)
    return _requantized(path, header, reader, fast, say)


def _requantized(path: Path, header: Header, reader: Any, folder: Path, say: Callable[[str], None]) -> Checked:
    """Made anew; the file as it is where there is no room for that."""
    needed = header.parameters * 17 // 16 + path.stat().st_size - header.size  # 34 bytes for 32 weights
    try:
        with new_folder(folder, needed, path.name, lambda done: _kept(done) is not None) as unfinished:
            say(f"Requantizing {path.name} to Q8_0, once ({gigabytes(needed)} in {folder.parent})…")
            file = unfinished / "model.gguf"
            _write(reader, file)
            header = read_header(file, open_reader(file))
            _write_header(unfinished, header)
    except ModelTooLargeError as error:
        say(f"{error.message}: it stays {header.quantization}, and reads prompts at half the speed")
        return Checked(path, header)
    return Checked(folder / "model.gguf", header)


def _write(reader: Any, file: Path) -> None:
    """Everything of a GGUF file, the matrices of slow types as Q8_0, one tensor in memory at a time."""
    import gguf
    import numpy as np
    from gguf import quants

    q8_0 = gguf.GGMLQuantizationType.Q8_0
    writer = gguf.GGUFWriter(file, reader.get_field("general.architecture").contents())
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            value = _Q8_0 if field.name == "general.file_type" else field.contents()
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, value, field.types[0], sub_type=inner)
    slow = [tensor.tensor_type.name in _SLOW for tensor in reader.tensors]
    for tensor, change in zip(reader.tensors, slow, strict=True):
        data, kind = tensor.data, tensor.tensor_type
        shape = quants.quant_shape_to_byte_shape(tensor.shape[::-1].tolist(), q8_0) if change else data.shape
        size = int(np.prod(shape)) if change else data.nbytes
        writer.add_tensor_info(tensor.name, shape, data.dtype, size, q8_0 if change else kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    try:
        for tensor, change in zip(reader.tensors, slow, strict=True):
            data = tensor.data
            if change:
                data = quants.quantize(quants.dequantize(data, tensor.tensor_type), q8_0)
            writer.write_tensor_data(data)
    finally:
        writer.close()


def _try(path: Path, socket: str) -> None:
    """Open the file in a process of its own, without reading its weights.

    Raises:
        ModelFileError: llama.cpp refuses it, with its own reason, or ends the process over it.
    """
    done = subprocess.run(
        [sys.executable, "-c", _TRY, str(path), socket], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode == 0:
        return
    reasons = [line.rpartition("error loading model: ")[2] for line in done.stderr.splitlines() if "error load" in line]
    raise ModelFileError(
        f"{path.name} cannot be opened by llama.cpp: {reasons[0] if reasons else 'it is damaged'}",
        f"Try --engine transformers, or download it again ({gigabytes(path.stat().st_size)} here)",
    )


def _kept(folder: Path) -> Header | None:
    try:
        values = json.loads((folder / "header.json").read_text(encoding="utf-8"))
        return Header(**{**values, "ends": tuple(values["ends"])})
    except (OSError, ValueError, TypeError, KeyError):  # not there, damaged, or of another version
        return None


def _keep(folder: Path, path: Path, header: Header) -> None:
    try:
        with new_folder(folder, 100_000, path.name, lambda done: _kept(done) is not None) as unfinished:
            _write_header(unfinished, header)
    except ModelTooLargeError:
        pass  # the file is looked at again next time


def _write_header(folder: Path, header: Header) -> None:
    text = json.dumps(dataclasses.asdict(header), ensure_ascii=False)
    (folder / "header.json").write_text(text, encoding="utf-8")
