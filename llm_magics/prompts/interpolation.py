"""``{{expr}}`` in a cell becomes the value of that Python expression. All other text stays as it is."""

from __future__ import annotations

import ast
import types
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import InputError, did_you_mean

_ROWS = 10  # rows of a table that go into a prompt
_TRIES = 50  # ends that are tried for one beginning; bounds the time a text full of braces can take


def interpolate(text: str, namespace: Mapping[str, object]) -> str:
    """Replace every ``{{expr}}`` by the expression's value.

    Single braces, ``$``, JSON, LaTeX and code pass untouched, and so does ``{{...}}`` around
    something that is not a Python expression. The expression may hold braces of its own.

    Args:
        text: a cell, or the value of an option.
        namespace: the names the expressions may use; Python's builtins are there as well.

    Returns:
        The text with strings put in as they are, DataFrames and Series as a Markdown table of at
        most 10 rows, and everything else as ``str`` writes it.

    Raises:
        InputError: an unknown name, with the nearest known one, or an expression that raises.
    """
    pieces: list[str] = []
    position = start = 0
    scope = dict(namespace)
    while (start := text.find("{{", start)) >= 0:
        found = _expression(text, start + 2)
        if found is None:
            start += 1
            continue
        source, code, end = found
        pieces += [text[position:start], _value(source, code, scope)]
        position = start = end
    return "".join([*pieces, text[position:]])


def _expression(text: str, start: int) -> tuple[str, types.CodeType, int] | None:
    """The shortest Python expression that begins at start and is closed by ``}}``, and where that ends."""
    end = start
    for _ in range(_TRIES):
        end = text.find("}}", end)
        if end < 0:
            return None
        source = text[start:end].strip()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)
                return source, compile(source, "<{{ }}>", "eval"), end + 2
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            end += 1  # by one: in {{ {1: {2: 3}}}} the end overlaps with the expression's own braces
    return None


def _value(source: str, code: types.CodeType, scope: dict[str, object]) -> str:
    shown = "{{" + (source if len(source) <= 60 else source[:57] + "...") + "}}"
    try:
        return _written(eval(code, scope))
    except NameError as exc:
        if exc.name is None or exc.name not in _names(source):
            raise _raised(shown, exc) from exc  # from within a function that the expression calls
        near = did_you_mean(exc.name, [name for name in scope if not name.startswith("_")])
        raise InputError(
            f"{shown}: there is no variable named {exc.name}",
            f"{near} Type --no-interpolate to send the braces as they are",
        ) from exc
    except Exception as exc:
        raise _raised(shown, exc) from exc


def _raised(shown: str, exc: Exception) -> InputError:
    return InputError(
        f"{shown} raised {type(exc).__name__}: {exc}",
        "Correct the expression, or type --no-interpolate to send the braces as they are",
    )


def _names(source: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(source, mode="eval")) if isinstance(node, ast.Name)}


def _written(value: Any) -> str:
    if isinstance(value, str):
        return value
    # By name, of pandas and polars alike: this layer imports neither.
    kinds = {base.__name__ for base in type(value).__mro__}
    if "Series" in kinds and hasattr(value, "to_frame"):
        return _table(value.to_frame())
    if "DataFrame" in kinds and hasattr(value, "head"):
        return _table(value)
    return str(value)


def _table(frame: Any) -> str:
    """A pandas or polars frame as a Markdown table."""
    total = len(frame)
    head = frame.head(_ROWS)
    index = getattr(head, "index", None)
    if index is not None and (any(name is not None for name in index.names) or index.dtype.kind not in "iu"):
        # An index that says something, as after groupby, value_counts or describe; not row numbers.
        head = head.reset_index(allow_duplicates=True)
    lines = [_row(head.columns), _row("---" for _ in head.columns)]
    lines += [_row(row) for row in _rows(head)]
    if total > _ROWS:
        lines += ["", f"({total - _ROWS} more rows)"]
    return "\n".join(lines)


def _rows(frame: Any) -> Iterator[Any]:
    rows = frame.itertuples(index=False, name=None) if hasattr(frame, "itertuples") else frame.iter_rows()
    return iter(rows)


def _row(cells: Any) -> str:
    return "| " + " | ".join(" ".join(str(cell).split()).replace("|", r"\|") for cell in cells) + " |"
