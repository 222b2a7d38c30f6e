"""The last answers of a panel, side by side, the latest first."""

from __future__ import annotations

from typing import Any

from ..values.answers import AnswerStream
from .live import NotebookView, Slot, StopButton
from .panel_saved import caption
from .panel_state import Shown

_KEPT = 3


class Answers:
    """The place of the answers.

    Args:
        shell: the IPython shell, with a kernel.

    Attributes:
        widget: to be put into the panel.
    """

    def __init__(self, shell: Any) -> None:
        import ipywidgets as W

        self._shell = shell
        self._slot = Slot(shell)
        self._places: list[_Place] = []
        self.widget = self._slot.keep(W.Box())
        self.widget.add_class("llm-panel-answers")

    @property
    def shown(self) -> list[Shown]:
        """The answers that have ended, the latest first."""
        return [Shown(place.cell, place.bundle) for place in self._places if place.bundle is not None]

    def begin(self, stream: AnswerStream, cell: str) -> NotebookView:
        """Make room for an answer.

        Args:
            stream: the answer.
            cell: the magic cell that gives it.

        Returns:
            What it is painted on.
        """
        there = [place for place in self._places if place.bundle is not None]  # not one that failed without a word
        self._places = [_Place(self._shell, cell), *there[: _KEPT - 1]]
        gone = there[_KEPT - 1 :]
        self.widget.children = tuple(place.widget for place in self._places)
        for place in gone:
            place.remove()
        return _View(stream, self._shell, self._places[0])

    def release(self) -> None:
        """Close every widget."""
        for place in self._places:
            place.remove()
        self._slot.release()


class _Place(Slot):
    """One answer among others: live widgets first, and in the end plain HTML in their stead."""

    def __init__(self, shell: Any, cell: str) -> None:
        super().__init__(shell)
        import ipywidgets as W

        self.cell = cell
        self.bundle: dict[str, str] | None = None
        self._frame = Slot(shell)  # what stays when the live widgets go
        self._caption = self._frame.html(caption(cell))
        self.widget = self._frame.keep(W.VBox([self._caption]))
        self.widget.add_class("llm-panel-answer")

    def open(self, *parts: Any) -> None:
        """Show the running answer."""
        import ipywidgets as W

        box = self.keep(W.VBox(parts))
        box.add_class("llm-card")
        self.widget.children = (self._caption, box)

    def close(self, bundle: dict[str, str] | None) -> None:
        """Show how it ended; None leaves nothing of it."""
        self.bundle = bundle
        if bundle is None:
            self.widget.layout.display = "none"
        else:
            self.widget.children = (self._caption, self._frame.html(bundle["text/html"]))
        self.release()

    def remove(self) -> None:
        """Take it off the page."""
        self.release()
        self._frame.release()


class _View(NotebookView):
    """A card whose Stop button is the panel's."""

    def stop_button(self, slot: Slot) -> StopButton:
        return _Hidden(slot, self._shell, self._stream.stop, "")


class _Hidden(StopButton):
    def state(self, seconds: float) -> list[str]:
        return []
