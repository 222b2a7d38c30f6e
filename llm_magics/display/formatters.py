"""How a value looks when a cell ends with it, and why an answer is not shown twice.

``%%llm`` shows its answer while it runs and returns it too, so that ``_`` and ``Out`` hold it. What was
shown in this very execution is therefore passed over by the display hook; once the cell has ended,
evaluating the answer shows its card again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..messages import Prompt
from ..results import Answer
from .card import answer_html, answer_text

_ATTRIBUTE = "_llm_magics_display"


class Formatters:
    """What this package adds to one shell's display.

    Args:
        shell: the IPython shell.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._shown: list[object] = []  # by identity: two answers with the same text are two answers

    def register(self) -> None:
        """Show ``Answer`` and ``Prompt`` as cards."""
        from .prompt import prompt_html, prompt_text

        formatter = self._shell.display_formatter
        kinds: list[tuple[type, Callable[[Any], str], Callable[[Any], str]]] = [
            (Answer, answer_html, answer_text),
            (Prompt, prompt_html, prompt_text),
        ]
        for kind, as_html, as_text in kinds:
            formatter.formatters["text/html"].for_type(kind, as_html)
            formatter.formatters["text/plain"].for_type(kind, _printer(as_text))
            formatter.ipython_display_formatter.for_type(kind, self._pass_over)
        self._shell.events.register("post_execute", self._forget)

    def unregister(self) -> None:
        """Take back what ``register`` did."""
        formatter = self._shell.display_formatter
        for kind in (Answer, Prompt):
            formatter.formatters["text/html"].pop(kind, None)
            formatter.formatters["text/plain"].pop(kind, None)
            formatter.ipython_display_formatter.pop(kind, None)
        self._shell.events.unregister("post_execute", self._forget)

    def mark_shown(self, value: object) -> None:
        """Remember until the end of this execution that a value is on the page."""
        self._shown.append(value)

    def _pass_over(self, value: object) -> None:
        if not any(value is shown for shown in self._shown):
            raise NotImplementedError  # IPython's way to say: use the other formatters

    def _forget(self) -> None:
        self._shown.clear()


def register(shell: Any) -> None:
    """Show ``Answer`` and ``Prompt`` values as cards in this shell. Doing it twice does no harm.

    Args:
        shell: the IPython shell.
    """
    unregister(shell)
    formatters = Formatters(shell)
    formatters.register()
    setattr(shell, _ATTRIBUTE, formatters)


def unregister(shell: Any) -> None:
    """Take back what ``register`` did, if it was called.

    Args:
        shell: the IPython shell.
    """
    formatters: Formatters | None = shell.__dict__.pop(_ATTRIBUTE, None)
    if formatters is not None:
        formatters.unregister()


def mark_shown(shell: Any, value: object) -> None:
    """Keep the display hook from showing a value again in this execution.

    Args:
        shell: the IPython shell.
        value: what was shown.
    """
    formatters: Formatters | None = getattr(shell, _ATTRIBUTE, None)
    if formatters is not None:
        formatters.mark_shown(value)


def _printer(as_text: Callable[[Any], str]) -> Callable[[Any, Any, bool], None]:
    def printer(value: Any, pretty: Any, cycle: bool) -> None:
        within = len(pretty.stack) > 1  # in a list or a dict, where a long text would drown the rest
        pretty.text(repr(value) if within else as_text(value))

    return printer
