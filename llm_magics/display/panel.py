"""A panel for trying prompts: fields, Run and Stop, the last answers side by side, and the cell that asks the same.

A click is handled in a thread that must be free for the next one, so an answer runs in a thread of its own, and is
painted from there. The notebook keeps a page without widgets in a second output right below the panel, which is
hidden as long as the panel is open: it can be written at any time, and no field loses the focus by it.
"""

from __future__ import annotations

import importlib.resources
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from ..errors import InputError, LLMMagicsError
from ..values.answers import AnswerStream
from . import card
from .answer import show_answer
from .live import Slot, answer_in_subshell
from .panel_answers import Answers
from .panel_form import Form, Offered
from .panel_saved import TITLE, note, saved_bundle
from .panel_state import PanelState
from .worker import IdleInterrupts

_SETTLE = 0.15
"""Seconds between a click on Run and a look at the fields: what was typed last may arrive after the click."""

_SAVE_AFTER = 0.7
"""Seconds without a change after which the saved form is written anew."""

_ROWS = 12
"""Lines of the cell that are seen without scrolling."""

_RUNNING = "An answer is running. Stop ends it"
_COPY = "This page takes no cell from a panel. Copy the text in the box, or run %llm_panel --insert in a cell"
_TOLD = {
    "inserted": "The cell is below the panel",
    "refused": "No cell could be added. Copy the text in the box, or run %llm_panel --insert in a cell",
    "copied": "The cell is copied",
    "selected": "The text in the box is selected: copy it with Ctrl+C",
}


class Asked(Offered, Protocol):
    """Who knows the session."""

    def cell(self, state: PanelState) -> str:
        """The magic cell of these fields."""
        ...

    def ask(self, cell: str) -> AnswerStream:
        """The answer of a magic cell, not begun."""
        ...

    @property
    def updates_per_second(self) -> float:
        """Repaints a second at most."""
        ...


class Panel:
    """An open panel.

    Args:
        shell: the IPython shell, with a kernel.
        asked: what it asks.
        state: what its fields hold at first.
    """

    def __init__(self, shell: Any, asked: Asked, state: PanelState) -> None:
        self._shell = shell
        self._asked = asked
        self._slot = Slot(shell)
        self._answers = Answers(shell)
        self._running = threading.Lock()
        self._stopped = threading.Event()
        self._stream: AnswerStream | None = None
        self._able = self._closed = False
        self._saved_id = os.urandom(16).hex()
        self._saving = threading.Lock()
        self._timer: threading.Timer | None = None
        self._interrupts = IdleInterrupts(shell.kernel, self.stop)
        self._form = Form(asked, state, self._slot.keep, self._changed)
        self._make()
        self._write_cell()

    @property
    def state(self) -> PanelState:
        """What the fields hold."""
        return self._form.state

    @property
    def cell(self) -> str:
        """The magic cell that asks the same; as the person left it where it was edited."""
        return str(self._cell.value)

    def open(self) -> None:
        """Show it, and its saved form below it."""
        bundle = dict(self._box._repr_mimebundle_())
        bundle |= {"text/html": "", "text/plain": ""}  # the saved form says it all
        self._shell.display_pub.publish(bundle, {})
        self._publish(update=False)
        self._shell.events.register("post_run_cell", self._refresh)

    def run(self, button: Any = None) -> None:
        """Ask, in a thread; refused while an answer runs."""
        if not self._running.acquire(blocking=False):
            self._tell(_RUNNING)
            return
        self._stopped.clear()
        threading.Thread(target=self._work, name="llm_magics panel", daemon=True).start()

    def stop(self, button: Any = None) -> None:
        """End the running answer at the next token."""
        self._stopped.set()
        if (stream := self._stream) is not None:
            stream.stop()

    def close(self) -> None:
        """End what runs, and take the widgets away: the saved form stays."""
        self._closed = True
        self.stop()
        if self._timer is not None:
            self._timer.cancel()
        self._shell.events.unregister("post_run_cell", self._refresh)
        self._publish(update=True)
        self._release_if_idle()

    def _make(self) -> None:
        import ipywidgets as W

        slot = self._slot
        run = self._button("run", "Run", self.run, "Ask the model (Shift+Enter in the prompt)", style="primary")
        stop = self._button("stop", "Stop", self.stop, "End the answer here and keep what there is")
        answer_in_subshell(stop)  # while a cell runs, too
        insert = self._button("insert", "Insert as cell", self._insert, "Add this cell below the panel")
        copy = self._button("copy", "Copy cell", self._copy, "Copy this cell")
        self._note = slot.html("")
        self._note.add_class("llm-panel-note")
        self._cell = slot.keep(W.Textarea(description="Cell"))
        self._cell.add_class("llm-panel-cell")
        head = slot.html(card.head(TITLE, "", ""))
        signals = [self._signal("able", self._is_able), *(self._signal(name, self._told) for name in _TOLD)]
        script = slot.keep(W.Output(outputs=(_script(),)))
        cell = slot.row("llm-panel-row", self._cell)
        buttons = (slot.row("llm-panel-row", run, stop), cell, slot.row("llm-panel-row", insert, copy))
        hidden = slot.row("llm-panel-hidden", *signals, script)
        parts = [slot.html(card.style()), head, self._form.widget, *buttons, self._note, self._answers.widget, hidden]
        self._box = slot.keep(W.VBox(parts))
        for name in ("llm-card", "llm-panel", "llm-panel-live"):
            self._box.add_class(name)

    def _button(self, name: str, label: str, click: Callable[[Any], None], tooltip: str, style: str = "") -> Any:
        import ipywidgets as W

        button = self._slot.keep(W.Button(description=label, tooltip=tooltip, button_style=style))
        button.add_class(f"llm-panel-{name}")
        button.on_click(click)
        return button

    def _signal(self, name: str, click: Callable[[Any], None]) -> Any:
        """A button that nobody sees; the script clicks it to say something."""
        return self._button(name, name, click, "")

    def _is_able(self, button: Any) -> None:
        self._able = True

    def _told(self, button: Any) -> None:
        self._tell(_TOLD[button.description])

    def _insert(self, button: Any) -> None:
        if not self._able:  # else the script does it, and tells
            self._tell(_COPY)

    def _copy(self, button: Any) -> None:
        if not self._able:
            self._tell("Copy the text in the box: click into it, then Ctrl+A and Ctrl+C")

    def _tell(self, text: str, kind: str = "") -> None:
        self._note.value = note(text, kind)

    def _changed(self) -> None:
        self._write_cell()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(_SAVE_AFTER, self._publish, kwargs={"update": True})
        self._timer.daemon = True
        self._timer.start()

    def _write_cell(self) -> None:
        try:
            cell = self._asked.cell(self._form.state)
            self._cell.value, self._cell.rows = cell, min(max(cell.count("\n") + 1, 3), _ROWS)
            self._tell("")
        except InputError as error:
            self._cell.value = ""
            self._tell(str(error), "failed")

    def _refresh(self, *unused: object) -> None:
        """After a cell, which may have loaded a model or made a knowledge base."""
        before = self._form.state
        self._form.refresh()
        if self._form.state != before:
            self._changed()

    def _work(self) -> None:
        self._interrupts.watch()
        try:
            time.sleep(_SETTLE)
            if not self._closed:
                self._tell("")
                self._answer(self.cell)
        except LLMMagicsError as error:
            self._tell(str(error), "failed")
        except BaseException as error:
            self._tell(f"{type(error).__name__}: {error}", "failed")
            raise  # a bug keeps its traceback
        finally:
            self._stream = None
            self._interrupts.unwatch()
            self._refresh()  # the default model may have been opened
            self._publish(update=True)
            self._running.release()
            if self._closed:
                self._release_if_idle()

    def _release_if_idle(self) -> None:
        """Close every widget once, when no thread paints on them; from then on no run can begin."""
        if self._running.acquire(blocking=False):
            self._answers.release()
            self._slot.release()

    def _answer(self, cell: str) -> None:
        self._stream = stream = self._asked.ask(cell)
        if self._stopped.is_set():  # pressed while passages were looked up
            stream.stop()
        view = self._answers.begin(stream, cell)
        show_answer(stream, shell=self._shell, updates_per_second=self._asked.updates_per_second, view=view)

    def _publish(self, *, update: bool) -> None:
        with self._saving:
            bundle = saved_bundle(self._form.state, self._form.model, self.cell, self._answers.shown)
            self._shell.display_pub.publish(bundle, {}, transient={"display_id": self._saved_id}, update=update)


def _script() -> dict[str, Any]:
    """The script as the output of a cell, which is how a page takes one."""
    text = importlib.resources.files(__package__).joinpath("panel.js").read_text(encoding="utf-8")
    return {"output_type": "display_data", "data": {"application/javascript": text, "text/plain": ""}, "metadata": {}}
