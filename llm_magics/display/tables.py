"""Small tables on the state of things: open models, settings, history."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from typing import Any

from .card import card, foot, head
from .markdown import NO_MATHS, breakable, escape, printable
from .output import show_bundle

_NARROWEST = 10  # characters to which a column is folded; in fewer no word has room


def show_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    shell: Any,
    note: str = "",
    width: int | None = None,
) -> None:
    """Show a small table.

    Args:
        title: what it lists.
        columns: the headings.
        rows: as many values in each as there are columns; numbers stand to the right.
        shell: the IPython shell; one with a kernel gets a card, any other gets printed text.
        note: one line below the table; may be empty.
        width: characters of a line of text at most: long cells are folded; None leaves them whole.
    """
    lines = table_lines(columns, rows, width) if rows else []
    text = "\n".join([printable(title), *lines, *([printable(note)] if note else [])])
    page = card(head(title, "", ""), table_html(columns, rows), foot([note] if note else []), label=title)
    show_bundle({"text/html": page, "text/plain": text}, shell=shell)


def table_html(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table as it stands in a card.

    Args:
        columns: the headings.
        rows: as many values in each as there are columns; none gives an empty text.
    """
    if not rows:
        return ""
    right = [_is_number(rows, place) for place in range(len(columns))]
    align = [' class="llm-right"' if is_right else "" for is_right in right]
    heads = "".join(f'<th scope="col"{css}>{escape(name)}</th>' for name, css in zip(columns, align, strict=True))
    lines = "".join(
        "<tr>" + "".join(f"<td{css}>{breakable(cell)}</td>" for cell, css in zip(row, align, strict=True)) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="llm-scroll {NO_MATHS}"><table class="llm-table"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[object]], width: int | None = None) -> list[str]:
    """A table in lines of text, the headings first.

    Args:
        columns: the headings.
        rows: as many values in each as there are columns; at least one row.
        width: characters of a line at most, as far as that goes: the widest columns are folded.
    """
    cells = [[" ".join(printable(str(cell)).split()) for cell in row] for row in rows]
    right = [_is_number(rows, place) for place in range(len(columns))]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    while width is not None and sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return [
        "  ".join(
            cell.rjust(wide) if is_right else cell.ljust(wide)
            for cell, wide, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for row in [list(columns), *cells]
        for line in itertools.zip_longest(*map(_folded, row, widths), fillvalue="")
    ]


def _folded(cell: str, width: int) -> list[str]:
    return textwrap.wrap(cell, max(1, width)) or [""]


def _is_number(rows: Sequence[Sequence[object]], place: int) -> bool:
    return bool(rows) and all(isinstance(row[place], int | float) and not isinstance(row[place], bool) for row in rows)
