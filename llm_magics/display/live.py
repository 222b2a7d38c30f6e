"""How a running answer is shown: in a notebook, in a terminal, or not at all.

The three have one form: ``start``, ``paint`` with the new chunks, and ``finish`` with the answer.
All are called from the main thread. In a notebook one output slot holds live widgets and at the end
plain HTML, so that nothing in the saved file needs a kernel or a widget manager.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..values.answers import Answer, AnswerStream, Chunk, Usage
from . import card
from .markdown import NO_MATHS, Cited, escape, printable, split_finished
from .output import write
from .sources import anchors, new_key, sources_html, sources_text

FREEZE = 500
"""Characters of finished blocks from which on they are sent no more. Resending everything is quadratic."""

TICK = 0.5
"""Seconds between two looks at whether the Stop button works, where no text comes."""

HINT_AFTER = 1.0
"""Seconds after which the way to stop is told where the Stop button cannot work. A front end that can
deliver its click opens a subshell within about 0.1 s of the first widget."""


class View(Protocol):
    """What ``show_answer`` paints on."""

    def start(self) -> None:
        """Show that an answer is coming."""

    def paint(self, chunks: Sequence[Chunk]) -> None:
        """Add the chunks that came since the last call, possibly none."""

    def tick(self, usage: Usage | None) -> None:
        """Show that time passes, between two paints; ``usage`` is what the answer has cost so far."""

    def finish(self, answer: Answer | None, *, failed: bool) -> None:
        """Put the final form in place; ``answer`` is None where nothing came."""


class SilentView:
    """Shows nothing."""

    def start(self) -> None:
        """Nothing to show."""

    def paint(self, chunks: Sequence[Chunk]) -> None:
        """Nothing to show."""

    def tick(self, usage: Usage | None) -> None:
        """Nothing to show."""

    def finish(self, answer: Answer | None, *, failed: bool) -> None:
        """Nothing to show."""


class FinalView(SilentView):
    """The final card alone: for ``%%capture``, where nobody looks meanwhile, and where there is nothing to wait for.

    Args:
        shell: the IPython shell.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def finish(self, answer: Answer | None, *, failed: bool) -> None:
        """Show the final card."""
        if answer is not None:
            self._shell.display_pub.publish(card.answer_bundle(answer, failed=failed), {})


class TerminalView:
    """Prints the text as it comes, and the costs in a last line.

    Args:
        stream: the running answer.
    """

    def __init__(self, stream: AnswerStream) -> None:
        self._part = ""
        self._shown = ""
        dumb = os.environ.get("TERM", "") == "dumb" or "NO_COLOR" in os.environ
        self._dim, self._plain = ("\x1b[2m", "\x1b[0m") if sys.stdout.isatty() and not dumb else ("", "")

    def start(self) -> None:
        """Nothing before the first word."""

    def paint(self, chunks: Sequence[Chunk]) -> None:
        """Print the new text; reasoning dimmed where the terminal has colours."""
        for chunk in chunks:
            if not chunk.text:
                continue
            if chunk.part != self._part:
                write("\n\n" if self._part else "")
                self._part = chunk.part
            dim = chunk.part == "reasoning"
            write(f"{self._dim}{printable(chunk.text)}{self._plain}" if dim else printable(chunk.text))
            self._shown += "" if dim else chunk.text

    def tick(self, usage: Usage | None) -> None:
        """What is printed stays as it is."""

    def finish(self, answer: Answer | None, *, failed: bool) -> None:
        """Print what was not printed as it came, and what it cost."""
        write("\n" if self._part else "")
        if answer is None:
            return
        text = card.said(answer, failed=failed, reasoning=False)  # it is on the screen already
        shown = printable(self._shown).strip()
        more = text.strip().removeprefix(shown) if shown else text
        if more[:1] not in ("", "\n"):  # it says something else
            more = text
        if more.strip():
            write(("\n" if self._part else "") + more.strip("\n") + "\n")
        if answer.sources:
            gap = "" if self._shown.endswith("\n") else "\n"
            write(f"{gap}{sources_text(answer.sources)}\n")
        if not card.asked(answer):
            return
        cut = answer.stop_reason in ("stopped", "length", "loop") and not failed
        ending = [card.state_of(answer)[0]] if cut else []
        write("\n" + " · ".join([*ending, *card.costs(answer.usage, answer.options)]) + "\n")


class Slot:
    """One place in a cell's output: live widgets or a line of text first, and in the end plain HTML in their stead.

    Args:
        shell: the IPython shell, with a kernel.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._display_id = os.urandom(16).hex()
        self._made: list[Any] = []
        self._shown = False

    def html(self, value: str) -> Any:
        """A widget that shows safe HTML."""
        import ipywidgets as W

        return self.keep(W.HTML(value))

    def row(self, name: str, *children: Any) -> Any:
        """Widgets beside one another, with a class for the style sheet."""
        import ipywidgets as W

        row = self.keep(W.HBox(children))
        row.add_class(name)
        return row

    def keep(self, widget: Any) -> Any:
        """Note a widget, and the layout and style that come with it, for closing."""
        self._made += [part for part in (widget.layout, getattr(widget, "style", None), widget) if part is not None]
        return widget

    def open(self, *parts: Any) -> None:
        """Show a card of these widgets."""
        import ipywidgets as W

        box = self.keep(W.VBox([self.html(card.style()), *parts]))
        box.add_class("llm-card")
        bundle = dict(box._repr_mimebundle_())
        bundle["text/plain"] = "(running…)"
        self._publish(bundle, update=False)

    def line(self, text: str) -> None:
        """Show a line of text, in place of the one before: where nobody looks at widgets."""
        self._publish({"text/plain": text}, update=self._shown)

    def close(self, bundle: dict[str, str] | None) -> None:
        """Put the final form in place and close every widget.

        Args:
            bundle: HTML and plain text; None leaves the place empty.
        """
        try:
            # Where nothing was shown, the final form is the first thing in this place.
            if bundle is not None or self._shown:
                self._publish(bundle or {"text/html": "", "text/plain": ""}, update=self._shown)
        finally:
            self.release()

    def release(self) -> None:
        """Close every widget, and leave what is shown."""
        for widget in reversed(self._made):
            widget.close()
        self._made.clear()

    def _publish(self, bundle: dict[str, Any], *, update: bool) -> None:
        self._shown = True
        self._shell.display_pub.publish(bundle, {}, transient={"display_id": self._display_id}, update=update)


class NotebookView:
    """Widgets while the answer runs, replaced in the same output slot by HTML and plain text.

    Args:
        stream: the running answer; the Stop button calls its ``stop``.
        shell: the IPython shell, with a kernel.
        slot: where the card is shown; a place of its own in the cell's output unless given.
    """

    def __init__(self, stream: AnswerStream, shell: Any, slot: Slot | None = None) -> None:
        self._stream = stream
        self._shell = shell
        self._slot = slot or Slot(shell)
        self._usage = Usage(prompt_tokens=stream.prompt.token_count)
        self._reasoned = 0
        self._status = ""
        self._began = time.monotonic()

    def start(self) -> None:
        """Put the live card into the output."""
        slot, stream = self._slot, self._stream
        head = slot.html(card.head(f"%%{stream.method}", stream.model, "running", "running"))
        self._stop = self.stop_button(slot)
        fold = slot.html('<details class="llm-fold"><summary>Reasoning</summary></details>')
        self._note = slot.html("")
        self._fold = slot.row("llm-live-fold", fold, self._note)
        self._fold.layout.display = "none"
        key = new_key()
        cited = anchors(stream.sources, key)
        self._thought = _Growing(slot, "llm-thought", "markdown", cited)
        self._body = _Growing(slot, "llm-grow", stream.format, cited)
        self._body.tail.add_class("llm-caret")
        self._foot = slot.html("")
        parts = [slot.row("llm-live-head", head, self._stop.widget), self._fold, self._thought.box, self._body.box]
        # Sources have a widget of their own, and it is sent once: what a person opens in it stays open.
        parts += [slot.html(sources_html(stream.sources, key))] if stream.sources else []
        self._paint_foot()
        slot.open(*parts, self._foot)

    def stop_button(self, slot: Slot) -> StopButton:
        """The button in the card's header."""
        return StopButton(slot, self._shell, self._stream.stop, "End the answer here and keep what there is")

    def paint(self, chunks: Sequence[Chunk]) -> None:
        """Repaint what changed."""
        for chunk in chunks:
            (self._thought if chunk.part == "reasoning" else self._body).add(chunk.text)
            if chunk.part == "reasoning":
                self._reasoned = chunk.usage.new_tokens
            self._status = chunk.status or self._status
            self._usage = chunk.usage
        if self._reasoned:
            self._fold.layout.display = None
            self._thought.paint()
            status = f"{self._status} · " if self._status else ""
            self._note.value = f'<span class="llm-note">{escape(status)}{self._reasoned} tokens</span>'
        self._body.paint()
        if time.monotonic() - self._ticked > TICK:
            self._paint_foot()

    def tick(self, usage: Usage | None) -> None:
        """Keep the footer and the Stop button up to date where repaints are rare or, with --no-stream, none."""
        if time.monotonic() - self._ticked > TICK:
            self._usage = usage or self._usage
            self._paint_foot()

    def finish(self, answer: Answer | None, *, failed: bool) -> None:
        """Replace the live card, and close every widget of it."""
        self._slot.close(card.answer_bundle(answer, failed=failed) if answer is not None else None)

    def _paint_foot(self) -> None:
        self._ticked = time.monotonic()
        seconds = self._ticked - self._began
        items = card.costs(self._usage)
        if not self._usage.new_tokens:
            items = [f"reading {self._usage.prompt_tokens} prompt tokens", f"{seconds:.1f} s"]
        self._foot.value = card.foot([*items, *self._stop.state(seconds)])


class _Growing:
    """A text that grows: finished blocks in widgets that are sent once, the rest in one that is repainted."""

    def __init__(self, slot: Slot, name: str, format: str, cited: Cited) -> None:
        import ipywidgets as W

        self._slot = slot
        self._format = format
        self._cited = cited
        self._text = ""
        self._changed = False
        self.tail = self._piece("")
        self.box = slot.keep(W.VBox([self.tail], layout={"display": "none"}))
        self.box.add_class(name)
        for css in NO_MATHS.split():
            self.box.add_class(css)

    def add(self, text: str) -> None:
        self._text += text
        self._changed = self._changed or bool(text)

    def paint(self) -> None:
        if not self._changed:
            return
        self._changed = False
        self.box.layout.display = None  # CSS decides from now on: the reasoning stays folded
        if len(self._text) > FREEZE:
            done, rest = self._split()
            if len(done) > FREEZE:
                frozen = self._piece(card.piece(done, self._format, self._cited))
                self.box.children = (*self.box.children[:-1], frozen, self.tail)
                self._text = rest
        self.tail.value = card.piece(self._text, self._format, self._cited)

    def _split(self) -> tuple[str, str]:
        if self._format == "markdown":
            return split_finished(printable(self._text))
        done, newline, rest = self._text.rpartition("\n")
        return done + newline, rest

    def _piece(self, value: str) -> Any:
        widget = self._slot.html(value)
        widget.add_class("llm-piece")
        if self._format == "markdown":
            widget.add_class("jp-RenderedHTMLCommon")
        return widget


class StopButton:
    """A button that ends what runs; hidden until it is known that a click gets through.

    Args:
        slot: where it is shown.
        shell: the IPython shell, with a kernel.
        stop: called once for a click, in another thread.
        tooltip: what a click does.

    Attributes:
        widget: to be put into the slot.
    """

    def __init__(self, slot: Slot, shell: Any, stop: Callable[[], None], tooltip: str) -> None:
        import ipywidgets as W

        self._shell = shell
        self._stop = stop
        self._clicked = False
        self.widget = slot.keep(W.Button(description="Stop", tooltip=tooltip))
        self.widget.layout.display = "none"
        self.widget.add_class("llm-stop")
        self.widget.on_click(self._click)
        answer_in_subshell(self.widget)

    def state(self, seconds: float) -> list[str]:
        """Show the button where it works; what a person is told beside it, if anything.

        Args:
            seconds: since the work began.
        """
        if self._clicked:
            return ["stopping…"]
        if _stop_works(self._shell):
            self.widget.layout.display = None
        elif seconds > HINT_AFTER:
            return ["To stop: interrupt the kernel (■)"]
        return []

    def _click(self, button: Any) -> None:
        # Runs in the subshell's thread while the main thread paints: no widget is touched here.
        self._clicked = True
        self._stop()


def answer_in_subshell(widget: Any) -> None:
    """Keep a widget's clicks out of the main shell, which is busy with the cell that made it.

    ipykernel 7.4 answers in the shell that last published to the widget; the attribute is private and
    skipped where it is None. Other versions do not have it.
    """
    if hasattr(widget.comm, "_reply_subshell_for"):
        widget.comm._reply_subshell_for = None


def _stop_works(shell: Any) -> bool:
    """Whether the front end has opened a subshell, through which a click arrives while a cell runs."""
    manager = getattr(getattr(shell.kernel, "shell_channel_thread", None), "manager", None)
    try:
        return bool(manager and manager.list_subshell())
    except Exception:  # a private interface: any change in it means that the button stays hidden
        return False
