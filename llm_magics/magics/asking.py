"""What the magics that ask a model have in common."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..display.answer import show_answer
from ..display.formatters import mark_shown
from ..display.prompt import show_prompt
from ..errors import InputError, did_you_mean
from ..messages import AskRequest, Example
from ..results import AnswerStream
from .arguments import ask_request
from .declare import MagicGroup


class AskingGroup(MagicGroup):
    """Magics that take the options of ``add_asking``."""

    def request(self, args: argparse.Namespace) -> AskRequest:
        """The common options as a value."""
        return ask_request(args, self.cell, self.shell.execution_count)

    def show(self, args: argparse.Namespace, stream: AnswerStream) -> Any:
        """Run and show an answer, or with ``--dry-run`` its prompt."""
        if args.dry_run:
            show_prompt(stream.prompt, shell=self.shell)
            return stream.prompt
        rate = self.session.settings.updates_per_second
        answer = show_answer(
            stream, shell=self.shell, updates_per_second=rate, live=not args.no_stream, silent=args.silent
        )
        if args.silent:
            mark_shown(self.shell, answer)
        return answer

    def examples(self, name: str | None) -> Sequence[Example]:
        """Examples from a variable of that name, else from a file.

        Raises:
            InputError: there is neither, or it holds no examples.
        """
        if name is None:
            return ()
        if name in self.shell.user_ns:
            return self.session.examples(self.shell.user_ns[name], name)
        if name.isidentifier() and not Path(name).exists():
            raise InputError(
                f"there is no variable or file {name}",
                did_you_mean(name, [n for n in self.shell.user_ns if not n.startswith("_")])
                or "Give a variable with pairs, or a .csv or .jsonl file",
            )
        return self.session.examples(Path(name).expanduser(), name)
