"""The magics for the session itself: ``%llm_history``, ``%llm_config``."""

from __future__ import annotations

import argparse
import shutil
import time

from ..errors import InputError
from .declare import MagicGroup, magic
from .parsing import Parser, whole_number


def _history_options(parser: Parser) -> None:
    add = parser.add_argument
    add("words", nargs="*", metavar="TEXT", help="shows only exchanges that hold this text")
    add("-n", type=whole_number("5", 1), metavar="N", help="the latest N; 20 are shown unless given")
    add("--export", metavar="FILE", help="writes what is found as JSON Lines")
    add("--clear", action="store_true", help="forgets everything; the next %%%%llm begins a new conversation")


def _config_options(parser: Parser) -> None:
    parser.add_argument("change", nargs="*", metavar="NAME=VALUE", help="settings to change; none shows them all")


class NotebookMagics(MagicGroup):
    """What was asked, and the settings."""

    @magic(
        "llm_history",
        "line",
        options=_history_options,
        examples=["%llm_history -n 5", "%llm_history --export prompts.jsonl"],
    )
    def llm_history(self, args: argparse.Namespace) -> None:
        """Show, search, export or clear what was asked and answered in this session."""
        history = self.session.history
        text = " ".join(args.words)
        if args.clear and (text or args.n):
            raise InputError("--clear forgets everything, not a part", "Type %llm_history --clear alone")
        if args.export:
            print(f"{history.export(history.find(text, args.n), args.export)} exchanges written to {args.export}")
        if args.clear:  # after the export: with both, nothing is lost
            print(f"{history.clear()} exchanges forgotten")
        if not args.clear and not args.export:
            self._show_history(text, args.n)

    @magic(
        "llm_config",
        "line",
        options=_config_options,
        examples=["%llm_config", "%llm_config temperature=0.7 max_new_tokens=200"],
    )
    def llm_config(self, args: argparse.Namespace) -> None:
        """Show the settings, or change some."""
        from ..display.tables import show_table

        settings = self.session.settings
        if len(args.change) == 1 and args.change[0] in settings.names():
            names = args.change
        else:
            changes = dict(_change(text) for text in args.change)
            settings.change_all(changes)
            names = list(changes) or settings.names()
        rows = [(name, repr(getattr(settings, name)), settings.trait_metadata(name, "help")) for name in names]
        note = "" if args.change else "%llm_config name=value changes one for this session"
        if not args.silent:
            show_table("%llm_config", ("setting", "value", "what it does"), rows, shell=self.shell, note=note)

    def _show_history(self, text: str, count: int | None) -> None:
        from ..display.tables import show_table

        shown = self.session.history.find(text, count or 20)
        rows = [
            (
                time.strftime("%H:%M:%S", time.localtime(exchange.time)),
                f"%%{exchange.answer.method}"
                + (" (replaced)" if exchange.replaced else " (compared)" if exchange.compared else ""),
                exchange.answer.model,
                _short(exchange.question),
                _short(exchange.answer.text or "(no final answer)"),
                exchange.answer.usage.new_tokens,
            )
            for exchange in shown
        ]
        total = len(self.session.history)
        note = f"{len(rows)} of {total} exchanges" if total else "nothing has been asked yet"
        columns = ("time", "magic", "model", "question", "answer", "tokens")
        width = shutil.get_terminal_size().columns
        show_table("%llm_history", columns, rows, shell=self.shell, note=note, width=width)


def _change(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"{text} gives no value", f"Type %llm_config {text}=VALUE, or %llm_config alone")
    return name, value


def _short(text: str, length: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"
