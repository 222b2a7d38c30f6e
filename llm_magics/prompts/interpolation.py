"""``{{expr}}`` in a cell becomes the value of that Python expression. All other text stays as it is."""

from __future__ import annotations

import ast
import re
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import InputError, did_you_mean, own_names

_ROWS = 10  # rows of a table that go into a prompt
_MARK = "\ue002{}\ue003"  # private-use characters, other than those of the magics' lines
_MARKED = re.compile("\ue002(\\d+)\ue003")
_TRIES = 50  # ends that are tried for one beginning; bounds the time a text full of braces can take


class RowText(str):
    """A text whose ``{{row...}}`` are filled in later, once for every row of a table; reads as it was typed.

    Values are put in as they are and never looked into, so that nothing in a table is run.

    Attributes:
        marked: the text with a mark in the place of each expression.
    """

    marked: str

    def __new__(
        cls, text: str, marked: str, expressions: Sequence[tuple[str, types.CodeType]], scope: Mapping[str, object]
    ) -> RowText:
        """Make it of the text, the marked text, the expressions and the names that they may use."""
        row_text = super().__new__(cls, text)
        row_text.marked = marked
        row_text._expressions = tuple(expressions)
        row_text._scope = dict(scope)
        return row_text

    _expressions: tuple[tuple[str, types.CodeType], ...]
    _scope: dict[str, object]

    @property
    def asks_for_rows(self) -> bool:
        """Whether there is any ``{{row...}}`` in it."""
        return bool(self._expressions)

    def values(self, row: object) -> list[str]:
        """What the expressions are for one row; a missing value is an empty text.

        Args:
            row: what the name ``row`` stands for.

        Raises:
            InputError: an unknown column, or an expression that raises.
        """
        self._scope["row"] = row
        return [_value(source, code, self._scope, missing="") for source, code in self._expressions]

    @staticmethod
    def filled(marked: str, values: Sequence[str]) -> str:
        """The marked text, or a part of it, with these values in place of its marks."""
        return _MARKED.sub(lambda found: values[int(found[1])], marked)


def interpolate(text: str, namespace: Mapping[str, object], *, later: bool = False) -> str:
    """Replace every ``{{expr}}`` by the expression's value.

    Single braces, ``$``, JSON, LaTeX and code pass untouched, and so does ``{{...}}`` around
    something that is not a Python expression. The expression may hold braces of its own.

    Args:
        text: a cell, or the value of an option.
        namespace: the names the expressions may use; Python's builtins are there as well.
        later: leave expressions that use the name ``row`` for later, and return a ``RowText``.

    Returns:
        The text with strings put in as they are, DataFrames and Series as a Markdown table of at
        most 10 rows, and everything else as ``str`` writes it.

    Raises:
        InputError: an unknown name, with the nearest known one, or an expression that raises.
    """
    pieces: list[str] = []
    marked: list[str] = []
    kept: list[tuple[str, types.CodeType]] = []
    position = start = 0
    scope = dict(namespace)
    while (start := text.find("{{", start)) >= 0:
        found = _expression(text, start + 2)
        if found is None:
            start += 1
            continue
        source, code, end = found
        pieces.append(text[position:start])
        marked.append(text[position:start])
        if later and "row" in _names(source):
            pieces.append(text[start:end])
            marked.append(_MARK.format(len(kept)))
            kept.append((source, code))
        else:
            pieces.append(_value(source, code, scope))
            marked.append(pieces[-1])
        position = start = end
    whole = "".join([*pieces, text[position:]])
    return RowText(whole, "".join([*marked, text[position:]]), kept, scope) if later else whole


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


def _value(source: str, code: types.CodeType, scope: dict[str, object], missing: str | None = None) -> str:
    shown = "{{" + (source if len(source) <= 60 else source[:57] + "...") + "}}"
    try:
        value = eval(code, scope)
        return missing if missing is not None and is_missing(value) else _written(value)
    except InputError:  # an unknown column
        raise
    except NameError as exc:
        if exc.name is None or exc.name not in _names(source):
            raise _raised(shown, exc) from exc  # from within a function that the expression calls
        near = did_you_mean(exc.name, own_names(scope))
        near = "row is a row of --over, in the cell alone." if exc.name == "row" else near
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


def is_missing(value: object) -> bool:
    """Whether it is what a table has where it has no value: None, NaN, ``pandas.NA`` or ``NaT``."""
    nan = isinstance(value, float) and value != value
    return value is None or nan or type(value).__name__ in ("NAType", "NaTType")


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
