"""How a value looks when a cell ends with it, and why an answer is not shown twice.

``%%llm`` shows its answer while it runs and returns it too, so that ``_`` and ``Out`` hold it. What was
shown in this very execution is therefore passed over by the display hook; once the cell has ended,
evaluating the answer shows its card again. A terminal's display hook prints ``Out[2]:`` before it asks
what to show, so there the prompt waits until that is known.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from .output import in_terminal

_ATTRIBUTE = "_llm_magics_display"
_PACKAGE = __package__.partition(".")[0]

# Our values that have a card: where each is defined, the functions that show it without their _html and _text, and
# the attributes that these take in its stead. All by name: what defines a value and what shows it is imported when
# there is one.
_CARDS = (
    ("values.answers", "Answer", "card.answer", ()),
    ("values.messages", "Prompt", "prompt.prompt", ()),
    ("values.knowledge", "Passages", "passages.passages", ()),
    ("values.training", "TrainingRun", "training.training", ()),
    ("evaluation.frames", "Evaluation", "evaluation.evaluation", ("report",)),
    ("evaluation.frames", "Comparison", "comparison.comparison", ("titles", "answers")),
)


class Formatters:
    """What this package adds to one shell's display.

    Args:
        shell: the IPython shell.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._shown: list[tuple[object, str]] = []  # by identity: two answers with the same text are two answers

    def register(self) -> None:
        """Show our values as cards."""
        formatter = self._shell.display_formatter
        for module, name, shown_by, parts in _CARDS:
            kind = (f"{_PACKAGE}.{module}", name)
            as_html, as_text = (_later(f"{shown_by}_{form}", parts) for form in ("html", "text"))
            formatter.formatters["text/html"].for_type_by_name(*kind, as_html)
            formatter.formatters["text/plain"].for_type_by_name(*kind, self._printer(as_text))
            formatter.ipython_display_formatter.for_type_by_name(*kind, self._pass_over)
        self._shell.events.register("post_execute", self._forget)
        if in_terminal(self._shell):
            self._prompt_waits(self._shell.displayhook)

    def unregister(self) -> None:
        """Take back what ``register`` did."""
        formatter = self._shell.display_formatter
        for kind in (f"{_PACKAGE}.{module}.{name}" for module, name, _, _ in _CARDS):
            formatter.formatters["text/html"].pop(kind, None)
            formatter.formatters["text/plain"].pop(kind, None)
            formatter.ipython_display_formatter.pop(kind, None)
        self._shell.events.unregister("post_execute", self._forget)
        for name in ("write_output_prompt", "compute_format_data"):
            vars(self._shell.displayhook).pop(name, None)

    def mark_shown(self, value: object, above: str) -> None:
        """Remember until the end of this execution that a value is on the page."""
        self._shown.append((value, above))

    def _prompt_waits(self, hook: Any) -> None:
        """Keep a terminal's ``Out[2]:`` from a value that is on the page already; ``_`` and ``Out`` get it anyway."""
        write, compute = hook.write_output_prompt, hook.compute_format_data

        def computed(value: object) -> tuple[dict[str, Any], dict[str, Any]]:
            if self._above(value) is not None:
                return {}, {}
            write()
            found: tuple[dict[str, Any], dict[str, Any]] = compute(value)
            return found

        hook.write_output_prompt, hook.compute_format_data = lambda: None, computed

    def _above(self, value: object) -> str | None:
        """What was said of a value when it was shown, or None where it was not."""
        return next((above for shown, above in self._shown if shown is value), None)

    def _pass_over(self, value: object) -> None:
        above = self._above(value)
        if above is None or (above and in_terminal(self._shell)):
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


def _later(function: str, parts: Sequence[str]) -> Callable[[Any], str]:
    """A function of this layer that is imported when it is first called.

    Args:
        function: such as ``card.answer_html``.
        parts: the attributes of a value that it takes; none where it takes the value itself.
    """
    module, _, name = function.partition(".")

    def call(value: Any) -> str:
        show = getattr(importlib.import_module(f"{__package__}.{module}"), name)
        return str(show(*(getattr(value, part) for part in parts)) if parts else show(value))

    return call


def register(shell: Any) -> None:
    """Show our values as cards in this shell. Doing it twice does no harm.

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
