"""Worked examples: from a variable or a file, and which of them go into the prompt."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, did_you_mean
from ..values.messages import Example

SELECTIONS = ("all", "first", "balanced", "similar")
"""The ways to choose examples."""

_NEAREST = 8  # similar examples where nobody says how many: what is less like the question costs time and helps little
_NAMES = (("input", "output"), ("text", "label"), ("question", "answer"), ("prompt", "completion"))
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")

Similarity = Callable[[Sequence[str], str], Sequence[float]]


def from_value(value: object, name: str) -> tuple[Example, ...]:
    """Read examples from a variable.

    Args:
        value: a sequence of ``Example`` or of pairs, a dictionary of inputs and outputs, a list of
            dictionaries, or a DataFrame. Dictionaries and DataFrames are read by the names
            input/output, text/label, question/answer or prompt/completion, and otherwise by their
            first two keys or columns. Numbers become text.
        name: the variable's name, for error messages.

    Returns:
        The examples in their order.

    Raises:
        InputError: the value cannot be read as examples, or there are none.
    """
    wanted = 'Give pairs, such as [("ignored us", "Negative")], a dictionary, or a DataFrame with two columns'
    rows: list[Any]
    if hasattr(value, "columns") and (hasattr(value, "itertuples") or hasattr(value, "iter_rows")):
        rows = _frame_rows(value, name)
    elif isinstance(value, Mapping):
        rows = list(value.items())
    elif isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise InputError(f"{name} is a {type(value).__name__} and holds no examples", wanted)
    else:
        rows = list(value)
    if not rows:
        raise InputError(f"{name} holds no examples", wanted)
    return tuple(_example(row, f"item {i} of {name}", wanted) for i, row in enumerate(rows, start=1))


def read_file(path: str | Path) -> tuple[Example, ...]:
    """Read examples from a file.

    Args:
        path: a CSV file (``.csv``, ``.tsv``; the first line names the columns) or JSON Lines
            (``.jsonl``, ``.ndjson``), in UTF-8. Names are looked up as ``from_value`` does.

    Returns:
        The examples in the file's order.

    Raises:
        InputError: the file is not there, cannot be read, or an example in it is not complete; the
            line or byte is named.
    """
    file = Path(path).expanduser()
    suffix = file.suffix.lower()
    if suffix not in (*_DELIMITERS, *_JSON_LINES) and file.is_file():
        raise InputError(f"{file.name} is not a file of examples by its ending", "Give a .csv or .jsonl file")
    text = _read(file)
    if not text.strip():
        raise InputError(f"{file.name} is empty", "Write an input and an output in each line")
    rows = _json_rows(text, file) if suffix in _JSON_LINES else _csv_rows(text, file, _DELIMITERS[suffix])
    if not rows:
        raise InputError(f"{file.name} has a header and no examples", "Write an input and an output in each line")
    wanted = "Write an input and an output there"
    return tuple(_example(row, f"line {line} of {file.name}", wanted) for line, row in rows)


def choose(
    examples: Sequence[Example],
    *,
    k: int | None,
    select: str,
    question: str,
    similarity: Similarity | None,
) -> tuple[Example, ...]:
    """Choose the examples that go into the prompt.

    Args:
        examples: what there is.
        k: how many to take; None takes as many as the selection allows, and with ``similar`` 8 at most.
        select: ``all`` takes all, or the first k where k is given; ``first`` the first k;
            ``balanced`` as equal a number of each output as possible, in the given order (without k
            as many of each as the rarest has); ``similar`` the k whose inputs are most similar to
            the question, the most similar last, so that it stands next to the question
            (Liu et al. 2022, arXiv:2101.06804).
        question: what will be asked.
        similarity: from inputs and the question to one score an input, higher for more similar.
            Only ``similar`` needs it.

    Returns:
        The chosen examples.

    Raises:
        InputError: an unknown selection, a k below 1 or above the number of examples, or
            ``similar`` without a similarity.
    """
    if select not in SELECTIONS:
        raise InputError(
            f"--select {select} is unknown", f"{did_you_mean(select, SELECTIONS)} It takes {', '.join(SELECTIONS)}"
        )
    if k is not None and k < 1:
        raise InputError(f"-k is {k}", "It takes a whole number from 1, such as -k 4")
    if k is not None and k > len(examples):
        raise InputError(f"-k is {k} and there are {len(examples)} examples", "Give a smaller number, or leave -k out")
    if select == "balanced":
        return _balanced(examples, k)
    if select == "similar":
        if similarity is None:
            raise InputError("--select similar needs an embedding model", "Type --select balanced")
        scores = similarity([example.input for example in examples], question)
        order = sorted(range(len(examples)), key=lambda i: -scores[i])
        return tuple(examples[i] for i in reversed(order[: _NEAREST if k is None else k]))
    return tuple(examples[:k])


def _balanced(examples: Sequence[Example], k: int | None) -> tuple[Example, ...]:
    groups: dict[str, list[int]] = {}
    for i, example in enumerate(examples):
        groups.setdefault(example.output, []).append(i)
    if not groups:
        return ()
    rounds = max(map(len, groups.values())) if k is not None else min(map(len, groups.values()))
    # One of each output, then a second of each: cut anywhere, the numbers differ by one at most.
    order = [group[turn] for turn in range(rounds) for group in groups.values() if turn < len(group)]
    return tuple(examples[i] for i in sorted(order[:k]))


def _example(row: Any, where: str, wanted: str) -> Example:
    if isinstance(row, Example):
        return row
    if isinstance(row, Mapping):
        row = [row.get(key) for key in _two_of(list(row), where)]
    if isinstance(row, (str, bytes)) or not isinstance(row, Sequence) or len(row) != 2:
        raise InputError(f"{where} is not an input and an output", wanted)
    texts = []
    for part, value in zip(("input", "output"), row, strict=True):
        text = "" if value is None or value != value else str(value)  # NaN is not equal to itself
        if not text.strip():
            raise InputError(f"{where} has no {part}", wanted)
        texts.append(text)
    return Example(*texts)


def _two_of(names: Sequence[Any], where: str) -> tuple[Any, Any]:
    """Which two of these names are the input and the output."""
    known = {str(name).strip().lower(): name for name in names}
    for given, expected in _NAMES:
        if given in known and expected in known:
            return known[given], known[expected]
    if len(names) < 2:
        raise InputError(f"{where} has no two columns", "Name one input and one output")
    return names[0], names[1]


def _frame_rows(frame: Any, name: str) -> list[Any]:
    columns = list(frame.columns)
    places = [columns.index(column) for column in _two_of(columns, name)]
    rows = frame.itertuples(index=False, name=None) if hasattr(frame, "itertuples") else frame.iter_rows()
    return [tuple(row[place] for place in places) for row in rows]


def _read(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8").removeprefix("\ufeff")
    except FileNotFoundError:
        if not file.parent.is_dir():
            raise InputError(f"there is no folder {file.parent}", "Check the path") from None
        names = sorted(other.name for other in file.parent.iterdir() if other.is_file())
        near = did_you_mean(file.name, names, count=3) or "Check the path"
        raise InputError(f"there is no file {file}", near) from None
    except UnicodeDecodeError as exc:
        raise InputError(f"{file.name} is not UTF-8 text: byte {exc.start}", "Save the file as UTF-8") from exc
    except OSError as exc:
        raise InputError(f"{file} cannot be read: {exc.strerror}", "Give a .csv or .jsonl file") from exc


def _csv_rows(text: str, file: Path, delimiter: str) -> list[tuple[int, Any]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = []
    try:
        header = next(row for row in reader if row)
        if len(header) < 2:
            raise InputError(f"{file.name} has one column", f"Put a {delimiter!r} between the input and the output")
        columns = [header.index(name) for name in _two_of(header, file.name)]
        begin = reader.line_num + 1
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append((begin, [row[i] if i < len(row) else None for i in columns]))
            begin = reader.line_num + 1
    except csv.Error as exc:
        raise InputError(
            f"line {reader.line_num} of {file.name} is not CSV: {exc}", "Check its quotation marks"
        ) from exc
    return rows


def _json_rows(text: str, file: Path) -> list[tuple[int, Any]]:
    rows: list[tuple[int, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as exc:
            raise InputError(
                f"line {number} of {file.name} is not JSON: {exc}",
                'Each line is an object, such as {"input": "...", "output": "..."}',
            ) from exc
        if isinstance(row, dict):
            row = {key: _json_text(value) for key, value in row.items()}
        elif isinstance(row, list):
            row = [_json_text(value) for value in row]
        rows.append((number, row))
    return rows


def _json_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
