"""Writes the reference of the magics from their parsers: ``python -m llm_magics.magics.reference``.

``docs/magics.md`` holds every option; the README holds a table between two marks.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .extension import GROUPS
from .parsing import Parser

BEGIN, END = "<!-- magics: begin (make docs) -->", "<!-- magics: end -->"


def reference() -> str:
    """The whole page ``docs/magics.md``."""
    parts = ["# The magics", "", "Written by `make docs` from the parsers.", ""]
    for group in GROUPS:
        parts += [f"## {(group.__doc__ or '').strip().rstrip('.')}", ""]
        for parser in group.parsers():
            parts += [f"### `{parser.prog}`", "", parser.description or "", ""]
            parts += [f"| option of `{parser.prog}` | |", "|---|---|"]
            parts += [f"| {_spelling(action)} | {_cell(_help(parser, action))} |" for action in _shown(parser)]
            parts += ["", *(f"```\n{example}\n```" for example in parser.examples), ""]
    return "\n".join(parts).rstrip() + "\n"


def table() -> str:
    """The README's table: a row for each magic."""
    common = common_options()
    rows = ["| magic | what it does | its own options |", "|---|---|---|"]
    for group in GROUPS:
        for parser in group.parsers():
            own = _shown(parser)
            if {*map(_long, own)}.issuperset(common):
                own = [action for action in own if _long(action) not in common]
            names = ", ".join(f"`{_long(action)}`" for action in own)
            rows.append(f"| `{parser.prog}` | {parser.description} | {names} |")
    asking = ", ".join(f"`{flag}`" for flag in common)
    rows += ["", f"Common to every magic that asks: {asking}. `%name?` shows all with examples."]
    return "\n".join(rows)


def common_options() -> list[str]:
    """The long names of the options that every asking magic has."""
    from .arguments import add_asking

    parser = Parser("any", "line_cell", "", (), "prompt")
    add_asking(parser)
    return [_long(action) for action in parser.options if action.dest != "help"]


def in_readme(text: str) -> str:
    """The README with the table between its marks made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main(root: Path) -> None:
    """Write both files."""
    (root / "docs").mkdir(exist_ok=True)
    (root / "docs" / "magics.md").write_text(reference(), encoding="utf-8")
    readme = root / "README.md"
    readme.write_text(in_readme(readme.read_text(encoding="utf-8")), encoding="utf-8")


def _shown(parser: Parser) -> list[argparse.Action]:
    return [*parser.positionals, *(action for action in parser.options if action.dest != "help")]


def _long(action: argparse.Action) -> str:
    return action.option_strings[-1] if action.option_strings else str(action.metavar)


def _spelling(action: argparse.Action) -> str:
    value = f" {action.metavar}" if action.metavar and action.nargs != 0 else ""
    return _cell(f"`{', '.join(action.option_strings)}{value if action.option_strings else action.metavar}`")


def _help(parser: Parser, action: argparse.Action) -> str:
    return (action.help or "") % {"prog": parser.prog}


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd())
