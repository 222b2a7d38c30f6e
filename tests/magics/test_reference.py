"""The pages that are written from the parsers are up to date."""

from __future__ import annotations

from pathlib import Path

from llm_magics.magics.extension import GROUPS
from llm_magics.magics.reference import BEGIN, END, in_readme, reference

ROOT = Path(__file__).parents[2]


def stale(name: str, text: str) -> str:
    return f"{name} does not say what the parsers say. Type: make docs. Its text should be:\n\n{text}"


def test_the_reference_of_the_magics_is_up_to_date() -> None:
    text = reference()
    assert (ROOT / "docs" / "magics.md").read_text(encoding="utf-8") == text, stale("docs/magics.md", text)


def test_the_table_in_the_readme_is_up_to_date() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.count(BEGIN) == readme.count(END) == 1, f"README.md needs one line {BEGIN} and one line {END}"
    text = in_readme(readme)
    table = text.partition(BEGIN)[2].partition(END)[0]
    assert readme == text, stale("The table in README.md", table)


def test_every_option_and_every_row_of_the_tables_is_there() -> None:
    text = reference()
    for parser in (parser for group in GROUPS for parser in group.parsers()):
        assert f"### `{parser.prog}`" in text
        part = text.partition(f"### `{parser.prog}`\n")[2].partition("### ")[0]
        for action in parser.options:
            assert action.dest == "help" or f"{action.option_strings[-1]}" in part
        rows = [line.replace(r"\|", "") for line in part.splitlines() if line.startswith("|")]
        assert {row.count("|") for row in rows} == {3}, f"a | inside a cell of {parser.prog} breaks its table"
