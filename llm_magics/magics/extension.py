"""Puts the magics into an IPython shell, and takes them out again without a trace."""

from __future__ import annotations

import atexit
from typing import Any

from ..display import formatters
from ..session import Session
from ..settings import load_settings
from .completion import Completion
from .declare import Declared, Method
from .evaluation import EvaluationMagics
from .finetuning import FinetuningMagics
from .input_lines import InputLines
from .model import ModelMagics
from .notebook import NotebookMagics
from .panel import PanelMagics
from .prompting import PromptingMagics
from .rag import RagMagics

GROUPS = (ModelMagics, PromptingMagics, RagMagics, FinetuningMagics, EvaluationMagics, PanelMagics, NotebookMagics)
_ATTRIBUTE = "_llm_magics"


def load(shell: Any) -> None:
    """Add the magics to a shell; a second time changes nothing."""
    if not hasattr(shell, _ATTRIBUTE):
        extension = Extension(shell)
        extension.load()
        setattr(shell, _ATTRIBUTE, extension)


def unload(shell: Any) -> None:
    """Take the magics out of a shell and close its models."""
    extension = getattr(shell, _ATTRIBUTE, None)
    if extension is not None:
        delattr(shell, _ATTRIBUTE)
        extension.unload()


def session_of(shell: Any) -> Session | None:
    """The session of a shell; None where the extension is not loaded."""
    extension = getattr(shell, _ATTRIBUTE, None)
    return None if extension is None else extension.session


class Extension:
    """Everything that one shell gets.

    Args:
        shell: the IPython shell.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self.session = Session(load_settings(shell.config))
        self._groups = [group(shell, self.session) for group in GROUPS]
        self._magics = [pair for group in self._groups for pair in group.magics()]
        self._before: dict[tuple[str, str], Method | None] = {}
        self._input = InputLines()
        self._completion = Completion(self.session)

    def load(self) -> None:
        """Register magics, settings, cards, completion and the reading of lines that end in ``?``."""
        self.session.settings.observe(self._rename, names="prefix")
        self._shell.configurables.append(self.session.settings)
        formatters.register(self._shell)
        self._shell.input_transformers_cleanup.insert(0, self._input)
        self._shell.Completer.custom_matchers.append(self._completion)
        atexit.register(self.session.close)
        self._register()
        for group in self._groups:
            group.open()

    def unload(self) -> None:
        """Undo ``load``; magics of others that had our names are theirs again."""
        self._unregister()
        for group in self._groups:
            group.close()
        atexit.unregister(self.session.close)
        self._shell.Completer.custom_matchers.remove(self._completion)
        self._shell.input_transformers_cleanup.remove(self._input)
        formatters.unregister(self._shell)
        self._shell.configurables.remove(self.session.settings)
        self.session.settings.unobserve(self._rename, names="prefix")
        models, exchanges, bases = len(self.session.models), len(self.session.history), len(self.session.knowledge)
        if models or exchanges or bases:
            print(
                f"llm_magics is unloaded: models closed: {models}, exchanges forgotten: {exchanges}, "
                f"knowledge bases forgotten: {bases}"
            )
        self.session.close()

    def _rename(self, change: Any) -> None:
        self._unregister()
        self._register()

    def _register(self) -> None:
        prefix = self.session.settings.prefix
        names: dict[str, Declared] = {}
        for declared, function in self._magics:
            name = prefix + declared.magic
            names[name] = declared
            for kind in ("line", "cell") if declared.kind == "line_cell" else ("line",):
                # Not register_function: it also keeps the function in an object that nothing is ever taken out of.
                magics = self._shell.magics_manager.magics[kind]
                self._before[kind, name] = magics.get(name)
                magics[name] = function
        self._input.names = self._completion.magics = names
        taken = sorted({(name, _owner(other)) for (_, name), other in self._before.items() if other is not None})
        for name, owner in taken:
            print(
                f"%{name} belonged to {owner} and is now llm_magics'; "
                f'%config LLMMagics.prefix = "my_" makes it %my_{name.removeprefix(prefix)} and gives the other back'
            )

    def _unregister(self) -> None:
        for (kind, name), other in self._before.items():
            magics = self._shell.magics_manager.magics[kind]
            if getattr(magics.get(name), "belongs_to", "") == "llm_magics":
                magics.pop(name)
                if other is not None:
                    magics[name] = other
        self._before.clear()


def _owner(function: Method) -> str:
    """The package that a magic comes from."""
    return str(getattr(function, "__module__", "") or type(function).__module__).partition(".")[0]
