"""How a value looks when a cell ends with it, and why an answer is not shown twice.

``%%llm`` shows its answer while it runs and returns it too, so that ``_`` and ``Out`` hold it. What was
shown in this very execution is therefore passed over by the display hook; once the cell has ended,
evaluating the answer shows its card again. A terminal's display hook prints ``Out[2]:`` before it asks
what to show, so there it gets words that point to the answer above.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ..messages import Prompt
from ..results import Answer, Passages
from .card import answer_html, answer_text

_ATTRIBUTE = "_llm_magics_display"


class Formatters:
    """What this package adds to one shell's display.

    Args:
        shell: the IPython shell.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._shown: list[tuple[object, str]] = []  # by identity: two answers with the same text are two answers

    def register(self) -> None:
        """Show ``Answer``, ``Prompt`` and ``Passages`` as cards."""
        from .passages import passages_html, passages_text
        from .prompt import prompt_html, prompt_text

        formatter = self._shell.display_formatter
        kinds: list[tuple[type, Callable[[Any], str], Callable[[Any], str]]] = [
            (Answer, answer_html, answer_text),
            (Prompt, prompt_html, prompt_text),
            (Passages, passages_html, passages_text),
        ]
        for kind, as_html, as_text in kinds:
            formatter.formatters["text/html"].for_type(kind, as_html)
            formatter.formatters["text/plain"].for_type(kind, self._printer(as_text))
            formatter.ipython_display_formatter.for_type(kind, self._pass_over)
        self._shell.events.register("post_execute", self._forget)

    def unregister(self) -> None:
        """Take back what ``register`` did."""
        formatter = self._shell.display_formatter
        for kind in (Answer, Prompt, Passages):
            formatter.formatters["text/html"].pop(kind, None)
            formatter.formatters["text/plain"].pop(kind, None)
            formatter.ipython_display_formatter.pop(kind, None)
        self._shell.events.unregister("post_execute", self._forget)

    def mark_shown(self, value: object, above: str) -> None:
        """Remember until the end of this execution that a value is on the page."""
        self._shown.append((value, above))

    def _above(self, value: object) -> str | None:
        """What was said of a value when it was shown, or None where it was not."""
        return next((above for shown, above in self._shown if shown is value), None)

    def _pass_over(self, value: object) -> None:
        above = self._above(value)
        if above is None or (above and getattr(self._shell, "kernel", None) is None):
            raise NotImplementedError  # IPython's way to say: use the other formatters

    def _printer(self, as_text: Callable[[Any], str]) -> Callable[[Any, Any, bool], None]:
        def printer(value: Any, pretty: Any, cycle: bool) -> None:
            if len(pretty.stack) > 1:  # in a list or a dict, where a long text would drown the rest
                pretty.text(repr(value))
            else:
                above = self._above(value)
                pretty.text(f"({above})" if above else as_text(value))

        return printer

    def _forget(self) -> None:
        outputs = captured()
        if outputs is not None and self._shown:  # the hook of %%capture keeps an empty bundle of what it passes over
            outputs[:] = [output for output in outputs if output["data"]]
        self._shown.clear()


def register(shell: Any) -> None:
    """Show ``Answer``, ``Prompt`` and ``Passages`` values as cards in this shell. Doing it twice does no harm.

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


def mark_shown(shell: Any, value: object, *, above: str = "") -> None:
    """Keep the display hook from showing a value again in this execution.

    Args:
        shell: the IPython shell.
        value: what was shown.
        above: what a terminal calls it; empty where nothing is to be said.
    """
    formatters: Formatters | None = getattr(shell, _ATTRIBUTE, None)
    if formatters is not None:
        formatters.mark_shown(value, above)


def captured() -> list[Any] | None:
    """What ``%%capture`` has collected so far; None where it does not run."""
    from IPython.core.displayhook import CapturingDisplayHook

    hook = sys.displayhook
    return hook.outputs if isinstance(hook, CapturingDisplayHook) else None
