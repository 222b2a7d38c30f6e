"""The magic for trying before writing: ``%llm_panel``."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from ..display.output import in_terminal
from ..errors import InputError
from ..session import Session
from .declare import MagicGroup, magic
from .parsing import Parser, one_of

if TYPE_CHECKING:
    from ..display.panel import Panel
    from ..display.panel_state import PanelState


def _panel_options(parser: Parser) -> None:
    from ..display.panel_state import METHODS

    add = parser.add_argument
    add("--method", type=one_of(*METHODS), metavar="WAY", help=f"{', '.join(METHODS)}: which fields it begins with")
    add("-m", "--model", metavar="NAME", default="", help="a loaded model; the one loaded last unless given")
    add("--insert", action="store_true", help="puts the panel's cell below this one, in any front end")


class PanelMagics(MagicGroup):
    """Trying by hand, and leaving with a cell."""

    def __init__(self, shell: Any, session: Session) -> None:
        super().__init__(shell, session)
        self._panel: Panel | None = None

    @magic(
        "llm_panel",
        "line",
        options=_panel_options,
        examples=["%llm_panel", "%llm_panel --method fewshot"],
    )
    def llm_panel(self, args: argparse.Namespace) -> None:
        """Try prompts with fields and sliders, and leave with the cell that gives the same answer."""
        if in_terminal(self.shell):
            raise InputError("a terminal cannot show %llm_panel", "Type %llm and the prompt, or open a notebook")
        if args.insert:
            self.shell.set_next_input(self._cell())
        elif not args.silent:
            self._open(self._state(args))

    def close(self) -> None:
        """Close the open panel, if there is one."""
        if self._panel is not None:
            self._panel.close()
            self._panel = None

    def _open(self, state: PanelState) -> None:
        from ..display.panel import Panel
        from ..display.panel_saved import show_unused
        from .panel_asking import PanelSession

        if not self.cell:  # papermill, nbclient: nobody looks at widgets
            show_unused(self.shell)
            return
        self.close()
        self._panel = Panel(self.shell, PanelSession(self.shell, self.session), state)
        self._panel.open()

    def _state(self, args: argparse.Namespace) -> PanelState:
        """What the last panel held, with what was typed now."""
        from ..display.panel_state import PanelState

        if args.model:
            args.model = self.session.model_name(args.model)
        given = {name: value for name in ("method", "model") if (value := getattr(args, name))}
        return dataclasses.replace(self._panel.state if self._panel else PanelState(), **given)

    def _cell(self) -> str:
        if self._panel is None:
            raise InputError("there is no panel to take a cell from", "Type %llm_panel")
        return self._panel.cell
