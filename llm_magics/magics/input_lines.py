"""Reads the ways of typing a magic that IPython would take for something else.

``%llm What is RAG?`` ends in IPython's sign for help, so the magic would never be called; and a
``%%llm`` line without a body is refused by IPython itself, with a traceback in a notebook. Both
become ordinary calls: the first of the line magic, the second of the cell magic with an empty cell,
or of the line magic for ``%%llm --help``. ``%llm?`` stays help.

A cell that holds lines such as ``>>> 1 + 1`` becomes a call too: IPython would take the ``>>>`` away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

_LINE = re.compile(r"(?P<before>\s*(?:[^\W\d][\w.\[\]]*\s*=\s*)?)%(?P<name>\w+)\s+(?P<rest>\S.*\?\s*;?)\s*$")
_CELL = re.compile(r"%%(?P<name>\w+)(?:\s+(?P<rest>.*\S))?\s*$")
_PROMPT = re.compile(r"\s*(?:>>>|\.\.\.|In \[\d+\]:)")
_HELP = ("-h", "--help", "help")


class InputLines:
    """An input transformer of IPython.

    Attributes:
        names: the names of our magics, as keys.
    """

    def __init__(self) -> None:
        self.names: Mapping[str, object] = {}

    def __call__(self, lines: Sequence[str]) -> list[str]:
        """Rewrite the lines of one cell."""
        filled = [line for line in lines if line.strip()]
        if filled and filled[0].startswith("%%"):
            found = _CELL.match(filled[0])
            if found is None or found["name"] not in self.names:
                return list(lines)
            if len(filled) == 1:
                return [_empty_cell(found["name"], found["rest"] or "")]
            if any(_PROMPT.match(line) for line in lines):
                body = "".join(lines[list(lines).index(filled[0]) + 1 :])
                return [f"get_ipython().run_cell_magic({found['name']!r}, {found['rest'] or ''!r}, {body!r})\n"]
            return list(lines)
        return list(self._rewritten(lines))

    def _rewritten(self, lines: Sequence[str]) -> Iterable[str]:
        quoted = False  # inside a text of several lines, which is not ours to change
        for line in lines:
            found = None if quoted else _LINE.match(line)
            quoted ^= (line.count('"""') + line.count("'''")) % 2 == 1
            if found and found["name"] in self.names and found["rest"].strip() != "?":
                yield _call(found["before"], found["name"], found["rest"].strip())
            else:
                yield line


def _call(before: str, name: str, rest: str) -> str:
    return f"{before}get_ipython().run_line_magic({name!r}, {rest!r})\n"


def _empty_cell(name: str, rest: str) -> str:
    if rest in _HELP:
        return _call("", name, "--help")
    return f"get_ipython().run_cell_magic({name!r}, {rest!r}, '\\n')\n"
