"""How a magic is declared, and what every magic does before and after its own few lines."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..errors import InputError, Interrupted, LLMMagicsError, did_you_mean, release
from ..prompts.interpolation import interpolate
from ..results import Answer
from ..session import Session
from .parsing import HelpWanted, Parser

Method = Callable[..., Any]
_PART = re.compile(r"(?P<whole>[^\W\d][\w.]*)\[(?P<key>[^]'\"]+)\]")


def magic(
    name: str,
    kind: str,
    *,
    examples: Sequence[str],
    options: Callable[[Parser], None] = lambda parser: None,
    prompt: str = "",
) -> Callable[[Method], Method]:
    """Declare a method of a ``MagicGroup`` as a magic.

    Args:
        name: without ``%``.
        kind: ``line``, or ``line_cell`` for one that works both ways.
        examples: cells to paste, for its help.
        options: adds its options to the parser.
        prompt: what the text after the options is; empty where it takes words.
    """

    def declare(method: Method) -> Method:
        parser = Parser(name, kind, (method.__doc__ or "").strip(), examples, prompt)
        options(parser)
        method.parser = parser  # type: ignore[attr-defined]
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
            if part and part["key"] not in self.shell.user_ns and not part["key"].lstrip("-").isdigit():
                return self.shell.ev(part["whole"])[part["key"]]
            return self.shell.ev(name)
        except Exception as error:  # whatever an expression can raise
            known = [known for known in self.shell.user_ns if not known.startswith("_")]
            reason = "there is no variable" if name.isidentifier() else f"{type(error).__name__}: {error} in"
            raise InputError(
                f"{reason} {name}",
                did_you_mean(name, known) or "Name a variable of this notebook",
            ) from None

    @classmethod
    def parsers(cls) -> list[Parser]:
        """The parsers of its magics, in the order of the class."""
        return [method.parser for method in vars(cls).values() if hasattr(method, "parser")]

    def magics(self) -> Iterator[tuple[Parser, Method]]:
        """Each magic's parser, and the function to register with IPython."""
        for method in vars(type(self)).values():
            if hasattr(method, "parser"):
                yield method.parser, self._function(method, method.parser)

    def _function(self, method: Method, parser: Parser) -> Method:
        def run(line: str, cell: str | None = None, local_ns: dict[str, Any] | None = None) -> Any:
            line, cell, silent = _without_semicolon(line, cell)
            namespace = {**self.shell.user_ns, **(local_ns or {})}
            args = argparse.Namespace(out=None)
            try:
                args, text = parser.read(line, cell, lambda part: interpolate(part, namespace))
                args.text, args.silent = text, silent
                result = method(self, args)
            except HelpWanted:
                print(parser.format_help())
                return None
            except (LLMMagicsError, Interrupted) as error:
                self._keep_partial(args, getattr(error, "answer", None))
                if isinstance(error, Interrupted) and args.out:
                    error.args = (str(error.args[0]).replace("is in _", f"is in {args.out}"),)
                release(error)
                error.prefix = self.session.settings.prefix
                raise
            self._keep(args, result)
            return result

        run.__name__ = run.__qualname__ = parser.magic
        run.__doc__ = parser.format_help()
        run._ipython_magic_no_var_expand = True  # type: ignore[attr-defined]
        run.needs_local_scope = True  # type: ignore[attr-defined]
        run.belongs_to = "llm_magics"  # type: ignore[attr-defined]
        return run

    def _keep_partial(self, args: argparse.Namespace, answer: Answer | None) -> None:
        """An answer that was stopped, or is not in the wanted form, is kept as a whole one would be."""
        if answer is not None:
            self._keep(args, answer)
            self.shell.displayhook.update_user_ns(answer)

    def _keep(self, args: argparse.Namespace, result: Any) -> None:
        if getattr(args, "out", None):
            self.shell.push({args.out: result})
        if isinstance(result, Answer) and result.output_format == "code":
            self.shell.set_next_input(result.data)


def _without_semicolon(line: str, cell: str | None) -> tuple[str, str | None, bool]:
    """A ``;`` at the end of a magic's line silences it. So does one on a line of its own at the end of a cell.

    One that ends a line of the cell stays: it belongs to the SQL or the C that is asked about.
    """
    if line.rstrip().endswith(";"):
        return line.rstrip()[:-1], cell, True
    if cell is not None and cell.rstrip().rpartition("\n")[2].strip() == ";":
        return line, cell.rstrip()[:-1], True
    return line, cell, False
