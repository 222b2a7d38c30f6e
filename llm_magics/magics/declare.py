"""How a magic is declared, and what every magic does before and after its own few lines."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ..errors import InputError, Interrupted, LLMMagicsError, did_you_mean, own_names, release
from ..prompts.interpolation import interpolate
from ..session import Session
from .interrupts import whole_imports
from .parsing import HelpWanted, Parser

if TYPE_CHECKING:
    from ..values.answers import Answer

Method = Callable[..., Any]
_MAGIC_LINE = re.compile(r"(?m)^%%(\w+)")
_ROWS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")  # endings of files of rows
_PART = re.compile(r"(?P<whole>[^\W\d][\w.]*)\[(?P<key>[^]'\"]+)\]")


class Declared:
    """What is known of a magic before its line is read.

    Attributes:
        magic: its name without ``%``.
        kind: ``line`` or ``line_cell``.
    """

    def __init__(self, magic: str, kind: str, make: Callable[[], Parser]) -> None:
        self.magic, self.kind = magic, kind
        self._make = make

    @functools.cached_property
    def parser(self) -> Parser:
        """What reads its line; made when it is first wanted, so that loading the extension makes none."""
        return self._make()


def magic(
    name: str,
    kind: str,
    *,
    examples: Sequence[str],
    options: Callable[[Parser], None] = lambda parser: None,
    prompt: str = "",
    parser: type[Parser] = Parser,
) -> Callable[[Method], Method]:
    """Declare a method of a ``MagicGroup`` as a magic.

    Args:
        name: without ``%``.
        kind: ``line``, or ``line_cell`` for one that works both ways.
        examples: cells to paste, for its help.
        options: adds its options to the parser.
        prompt: what the text after the options is; empty where it takes words.
        parser: what reads its line.
    """

    def declare(method: Method) -> Method:
        def make() -> Parser:
            made = parser(name, kind, (method.__doc__ or "").strip(), examples, prompt)
            options(made)
            return made

        method.declared = Declared(name, kind, make)  # type: ignore[attr-defined]
        return method

    return declare


class MagicGroup:
    """Magics of one theme.

    Args:
        shell: the IPython shell.
        session: what they work on.
    """

    def __init__(self, shell: Any, session: Session) -> None:
        self.shell = shell
        self.session = session

    @property
    def cell(self) -> str:
        """Identity of the cell that runs, as the front end gives it; empty in a terminal."""
        get_parent = getattr(self.shell, "get_parent", None)
        parent = get_parent() if get_parent else {}
        return str((parent.get("metadata") or {}).get("cellId") or "")

    def variable(self, name: str) -> Any:
        """The value of a variable, or of a part of it such as ``table.text`` or ``table["text"]``.

        Raises:
            InputError: there is none.
        """
        part = _PART.fullmatch(name)  # the line's reading has taken the quotes: table["text"] comes as table[text]
        try:
            a_name = part and part["key"] not in self.shell.user_ns and not re.fullmatch(r"[-\d:]+", part["key"])
            if part and a_name:
                return self.shell.ev(part["whole"])[part["key"]]
            return self.shell.ev(name)
        except Exception as error:  # whatever an expression can raise
            reason = "there is no variable" if name.isidentifier() else f"{type(error).__name__}: {error} in"
            raise InputError(
                f"{reason} {name}",
                did_you_mean(name, own_names(self.shell.user_ns)) or "Name a variable of this notebook",
            ) from None

    def variable_or_file(self, name: str, hint: str) -> tuple[Any, bool]:
        """The value of a variable or of a part of it, else the text itself: a file, a folder or a data set of the Hub.

        Args:
            name: what was typed; a file of that name comes before a variable.
            hint: what to give where it is neither, and no variable is called nearly so.

        Returns:
            The value or the text, and whether it is a variable's.

        Raises:
            InputError: a name that is neither.
        """
        # os.path's own: those of Path raise where ~name is nobody here, or a name is too long.
        there, known = os.path.exists(os.path.expanduser(name)), self.shell.user_ns
        if not there and name.partition(".")[0].partition("[")[0] in known:
            try:
                return self.variable(name), True
            except InputError as error:
                no_part = isinstance(error.__context__, AttributeError)
                if not no_part or PurePath(name).suffix.lower() not in _ROWS:
                    raise
                return name, False  # facts.csv, and there is a variable facts
        if not there and name.isidentifier():
            near = did_you_mean(name, own_names(known))
            raise InputError(f"there is no variable or file {name}", near or hint)
        return name, False

    def open(self) -> None:
        """Say what there is already when the extension is loaded."""

    def close(self) -> None:
        """End what it keeps open when the extension is unloaded."""

    @classmethod
    def parsers(cls) -> list[Parser]:
        """The parsers of its magics, in the order of the class."""
        return [method.declared.parser for method in vars(cls).values() if hasattr(method, "declared")]

    def magics(self) -> Iterator[tuple[Declared, Method]]:
        """Each magic as it was declared, and the function to register with IPython."""
        for method in vars(type(self)).values():
            if hasattr(method, "declared"):
                yield method.declared, self._function(method, method.declared)

    def _function(self, method: Method, declared: Declared) -> Method:
        def run(line: str, cell: str | None = None, local_ns: dict[str, Any] | None = None) -> Any:
            args = argparse.Namespace(out=None)
            try:
                args = read(declared.parser, line, cell, {**self.shell.user_ns, **(local_ns or {})})
                if not args.silent:
                    self._tell_second_magic(cell or "")
                with _one_line(), whole_imports():
                    result = method(self, args)
            except HelpWanted:
                print(declared.parser.format_help())
                return None
            except (LLMMagicsError, Interrupted) as error:
                self._keep_partial(args, error.answer)
                if isinstance(error, Interrupted) and getattr(args, "out", None):
                    error.args = (str(error.args[0]).replace("is in _", f"is in {args.out}"),)
                release(error)
                error.prefix = self.session.settings.prefix
                raise
            self._keep(args, result)
            return result

        run.__name__ = run.__qualname__ = declared.magic
        run.__doc__ = method.__doc__
        run.getdoc = lambda: declared.parser.format_help()  # type: ignore[attr-defined]  # what IPython shows for %name?
        run._ipython_magic_no_var_expand = True  # type: ignore[attr-defined]
        run.needs_local_scope = True  # type: ignore[attr-defined]
        run.belongs_to = "llm_magics"  # type: ignore[attr-defined]
        return run

    def _tell_second_magic(self, cell: str) -> None:
        """Say where a cell holds a line that was meant to be a magic: IPython reads one at the top alone."""
        known = self.shell.magics_manager.magics["cell"]
        for name in _MAGIC_LINE.findall(cell):
            if getattr(known.get(name), "belongs_to", "") == "llm_magics":
                print(f"the line %%{name} is read as text here: a cell has one magic, at its top. Give it its own cell")
                return

    def _keep_partial(self, args: argparse.Namespace, answer: Answer | None) -> None:
        """An answer that was stopped, or is not in the wanted form, is kept as a whole one would be."""
        if answer is not None:
            self._keep(args, answer)
            self.shell.displayhook.update_user_ns(answer)

    def _keep(self, args: argparse.Namespace, result: Any) -> None:
        if getattr(args, "out", None):
            self.shell.push({args.out: result})
        from ..values.answers import Answer

        if isinstance(result, Answer) and result.output_format == "code":
            self.shell.set_next_input(result.data)


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """An interrupt before or after what knows how to stop is told in one line too."""
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt:
        raise Interrupted("stopped") from None


def read(parser: Parser, line: str, cell: str | None, namespace: dict[str, Any]) -> argparse.Namespace:
    """The options of a magic, with ``text`` and ``silent``.

    Args:
        parser: the magic's.
        line: what follows its name.
        cell: the cell's body; None for a line magic.
        namespace: what ``{{...}}`` is looked up in.

    Raises:
        InputError: the line cannot be read.
        HelpWanted: ``--help``.
    """
    line, cell, silent = _without_semicolon(line, cell)
    fill, later = (functools.partial(interpolate, namespace=namespace, later=rows) for rows in (False, True))
    args, text = parser.read(line, cell, fill, later)
    args.text, args.silent, args.magic = text, silent, parser.magic
    return args


def _without_semicolon(line: str, cell: str | None) -> tuple[str, str | None, bool]:
    """A ``;`` at the end of a magic's line silences it. So does one on a line of its own at the end of a cell.

    One that ends a line of the cell stays: it belongs to the SQL or the C that is asked about.
    """
    if line.rstrip().endswith(";"):
        return line.rstrip()[:-1], cell, True
    if cell is not None and cell.rstrip().rpartition("\n")[2].strip() == ";":
        return line, cell.rstrip()[:-1], True
    return line, cell, False
