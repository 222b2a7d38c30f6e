"""What the magics that ask a model have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..display.formatters import mark_shown
from ..errors import InputError, did_you_mean, own_names
from .arguments import ask_request
from .declare import MagicGroup

if TYPE_CHECKING:
    from ..values.answers import AnswerStream
    from ..values.asking import AnswerSchema, AskRequest
    from ..values.messages import Example
    from ..values.tables import AnswerTable


class AskingGroup(MagicGroup):
    """Magics that take the options of ``add_asking``."""

    def request(self, args: argparse.Namespace) -> AskRequest:
        """The common options as a value."""
        return ask_request(args, self.cell, self.shell.execution_count, self._schema(args.schema))

    def answer(
        self, args: argparse.Namespace, ask: Callable[[Any, AskRequest], AnswerStream], *, reasoning: bool = False
    ) -> Any:
        """Ask, and show the answer; with ``--over`` for every row of a table.

        Args:
            args: the parsed options.
            ask: one of the session's ways to ask.
            reasoning: whether the model writes its reasoning.
        """
        if args.over is None:
            if args.column:
                raise InputError("--column is a column of the table of --over", "Type --over with a DataFrame")
            return self.show(args, ask(args.text, self.request(args)))
        table = self._table(args, ask, reasoning)
        if args.dry_run:
            print(f"the prompt of the first of {table.total:,} rows")
            return self.show(args, table.first())
        from ..display.over import show_table

        try:
            show_table(table, out=args.out, shell=self.shell, silent=args.silent)
        finally:  # whatever happened, what is done is kept
            self._keep_rows(args.out, table)
            args.out = None  # it has its value already
        return None

    def _table(
        self, args: argparse.Namespace, ask: Callable[[Any, AskRequest], AnswerStream], reasoning: bool
    ) -> AnswerTable:
        if not args.out and not args.dry_run:
            raise InputError("--over puts its table into a variable", f"Type --over {args.over} -o result")
        return self.session.over(
            self.variable(args.over),
            ask,
            args.text,
            self.request(args),
            method=args.magic,
            source=args.over,
            column=args.column,
            reasoning=reasoning,
            choices=getattr(args, "choices", ()),
            before=self.shell.user_ns.get(args.out),
            out=args.out or "",
        )

    def _keep_rows(self, name: str, table: AnswerTable) -> None:
        """Put the rows that are done into a variable; where there are none, it keeps what it has."""
        frame = table.frame
        if len(frame):
            self.shell.push({name: frame})

    def show(self, args: argparse.Namespace, stream: AnswerStream) -> Any:
        """Run and show an answer, or with ``--dry-run`` its prompt."""
        if args.dry_run:
            from ..display.prompt import show_prompt

            show_prompt(stream.prompt, shell=self.shell, schema=stream.options.schema)
            return stream.prompt
        from ..display.answer import show_answer

        rate = self.session.settings.updates_per_second
        answer = show_answer(
            stream, shell=self.shell, updates_per_second=rate, live=not args.no_stream, silent=args.silent
        )
        if args.silent:
            mark_shown(self.shell, answer)
        return answer

    def _schema(self, name: str | None) -> AnswerSchema | None:
        """A schema from a variable of that name, else from a file."""
        if name is None:
            return None
        file = Path(name).expanduser()
        if name not in self.shell.user_ns and (file.suffix == ".json" or file.is_file()):
            return self.session.schema(file, name)
        return self.session.schema(self.variable(name), name)

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
                did_you_mean(name, own_names(self.shell.user_ns))
                or "Give a variable with pairs, or a .csv or .jsonl file",
            )
        return self.session.examples(Path(name).expanduser(), name)
