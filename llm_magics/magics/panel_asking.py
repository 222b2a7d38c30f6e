"""What a panel knows of the session, and how it asks: by the very magics that its cell would call."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from ..display.panel_state import METHODS, PanelState
from ..errors import InputError
from ..session import Session
from ..values.answers import AnswerStream
from .declare import read
from .panel_cell import cell_text
from .parsing import HelpWanted
from .prompting import PromptingMagics
from .rag import RagMagics


class _Asking(PromptingMagics, RagMagics):
    """The magics that ask, whose answers are not shown but given to the panel."""

    @property
    def cell(self) -> str:
        """A panel is no cell of the conversation."""
        return ""

    def show(self, args: argparse.Namespace, stream: AnswerStream) -> AnswerStream:
        """Nothing yet."""
        return stream


class PanelSession:
    """What a panel knows of the session.

    Args:
        shell: the IPython shell.
        session: what it asks.
    """

    def __init__(self, shell: Any, session: Session) -> None:
        self._session = session
        self._shell = shell
        self._magics = _Asking(shell, session)

    @property
    def models(self) -> Sequence[str]:
        """Names of the loaded models, the one that answers last."""
        return [info.name for info in self._session.models]

    @property
    def knowledge_bases(self) -> Sequence[str]:
        """Names of the knowledge bases, the one used last at the end."""
        return self._session.knowledge.names

    @property
    def default_model(self) -> str:
        """What is opened where no model is loaded."""
        return self._session.settings.default_model

    @property
    def answering(self) -> str:
        """The model that answers where none is chosen."""
        return [self.default_model, *self.models][-1]

    @property
    def updates_per_second(self) -> float:
        """Repaints a second at most."""
        return self._session.settings.updates_per_second

    def temperature(self, state: PanelState) -> float:
        """The temperature where none is chosen."""
        if state.method in ("fewshot", "rag"):
            return 0.0
        return 0.7 if state.method == "cot" and state.votes > 1 else self._session.settings.temperature

    def max_new_tokens(self) -> int:
        """The longest answer where none is chosen."""
        return self._session.settings.max_new_tokens

    def cell(self, state: PanelState) -> str:
        """The magic cell of these fields."""
        return cell_text(state, self._session.settings.prefix)

    def ask(self, cell: str) -> AnswerStream:
        """Read the cell as IPython would, so that it and the panel cannot differ."""
        first, _, body = cell.partition("\n")
        name, _, line = first.strip().removeprefix("%%" + self._session.settings.prefix).partition(" ")
        if not first.startswith("%%") or name not in METHODS:
            wanted = ", ".join(f"%%{self._session.settings.prefix}{method}" for method in METHODS)
            raise InputError("the panel asks one magic cell", f"Begin the box with {wanted}")
        method = getattr(self._magics, name)
        try:
            args = read(method.declared.parser, line, body, self._shell.user_ns)
        except HelpWanted:
            raise InputError("a panel has no --help", f"Type %{name} --help in a cell") from None
        for option in ("dry_run", "retrieve_only", "out"):
            if getattr(args, option, None):
                raise InputError(f"--{option.replace('_', '-')} has no use in a panel", "Insert the cell, and run it")
        stream: AnswerStream = method(args)
        return stream
