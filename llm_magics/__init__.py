"""Prompt engineering, retrieval and fine-tuning of local language models in notebook cells.

``%load_ext llm_magics`` adds the magics; ``Session`` is the same thing without IPython. Importing
this package loads no torch, transformers, pandas or ipywidgets: each comes with the first cell
that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "AskRequest",
    "Example",
    "LLMMagicsError",
    "Message",
    "ModelRequest",
    "ScriptedEngine",
    "Session",
    "__version__",
    "get_session",
]

_HOMES = {
    "Answer": "values.answers",
    "AskRequest": "values.asking",
    "Example": "values.messages",
    "LLMMagicsError": "errors",
    "Message": "values.messages",
    "ModelRequest": "values.models",
    "ScriptedEngine": "engines.scripted",
    "Session": "session",
}

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from .engines.scripted import ScriptedEngine
    from .errors import LLMMagicsError
    from .session import Session
    from .values.answers import Answer
    from .values.asking import AskRequest
    from .values.messages import Example, Message
    from .values.models import ModelRequest


def __getattr__(name: str) -> Any:
    """Public names, imported when they are first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'llm_magics' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def get_session() -> Session:
    """The session behind this notebook's magics.

    Raises:
        LLMMagicsError: ``%load_ext llm_magics`` has not run here.
    """
    from IPython.core.getipython import get_ipython

    from .errors import LLMMagicsError
    from .magics import extension

    session = extension.session_of(get_ipython())
    if session is None:
        raise LLMMagicsError("llm_magics is not loaded in this notebook", "Type %load_ext llm_magics")
    return session


def load_ipython_extension(shell: InteractiveShell) -> None:
    """What ``%load_ext llm_magics`` calls."""
    from .magics import extension

    extension.load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """What ``%unload_ext llm_magics`` calls."""
    from .magics import extension

    extension.unload(shell)
