"""Which engine opens a model. Imports the one that does, and no other."""

from __future__ import annotations

import functools
import shutil
import socket
from collections.abc import Callable
from importlib.util import find_spec

from ..errors import InputError
from ..settings import LLMMagics
from ..values.models import ModelRequest
from .base import Engine
from .resolve import Source
from .server_address import is_address


def engine_for(source: Source, request: ModelRequest) -> str:
    """``transformers``, ``llamacpp`` or ``server``.

    llama.cpp is taken for a ``.gguf`` file where it is installed, unless an option asks for what only transformers
    does, or only transformers has a GPU to run it on.

    Args:
        source: where the model lies.
        request: how it was asked for; an engine that it names is taken.

    Raises:
        InputError: a server's model for another engine, or a server without its address.
    """
    if source.kind == "server":
        if request.engine not in ("auto", "server"):
            raise InputError(f"{request.engine} opens no model on a server", "Leave --engine and --adapter out")
        return "server"
    check_address(request)
    if request.engine != "auto":
        return request.engine
    for_transformers = source.kind != "gguf" or (request.quantize, request.dtype) != ("auto", "auto")
    if for_transformers or find_spec("xllamacpp") is None or not hasattr(socket, "AF_UNIX"):
        return "transformers"
    if request.device_map == "cpu" or not _cuda():
        return "llamacpp" if request.device_map in ("auto", "cpu") else "transformers"
    from .llamacpp import gpus

    return "llamacpp" if gpus() else "transformers"


def check_address(request: ModelRequest) -> None:
    """Refuse a server without its address, before its model is looked for here.

    Args:
        request: how the model was asked for.

    Raises:
        InputError: a server without its address.
    """
    if request.engine == "server" and not is_address(request.model):
        hint = f"Type %llm_load {request.model}@http://host:8000/v1"
        raise InputError(f"--engine server needs the server's address, and {request.model} has none", hint)


def _cuda() -> bool:
    """Whether torch has an NVIDIA GPU; torch is imported only where the driver is there."""
    if shutil.which("nvidia-smi") is None or find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


def prepare(
    source: Source, request: ModelRequest, *, coming_back: int, settings: LLMMagics, say: Callable[[str], None]
) -> Callable[[], Engine]:
    """Do everything that can fail before memory is taken.

    Args:
        source: where the model lies, from ``resolve``.
        request: how to load it.
        coming_back: bytes of a model that is closed before this one is loaded.
        settings: the settings in force, also later: how long a server is waited for.
        say: told in one line what takes long.

    Returns:
        A function that loads the model.

    Raises:
        LLMMagicsError: as the engine's own ``prepare``.
    """
    engine = engine_for(source, request)
    if engine == "server":
        from . import server

        return functools.partial(server.load, server.prepare(source, request, settings=settings, say=say))
    if engine == "llamacpp":
        from . import llamacpp

        return functools.partial(llamacpp.load, llamacpp.prepare(source, request, coming_back=coming_back, say=say))
    from . import transformers

    return functools.partial(transformers.load, transformers.prepare(source, request, coming_back=coming_back, say=say))
