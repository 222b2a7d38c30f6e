"""From files, folders, Hub ids and variables to rows: one dict a row, of plain Python values.

What the columns mean is decided in ``data``.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingPackageError, did_you_mean

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_LARGEST_CELL = 1 << 27  # characters; csv's own limit of 131,072 is less than a long document


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as they were found.

    Attributes:
        source: file, Hub id or variable, for a person.
        columns: the names in the order in which they were first seen.
        rows: one dict a row; a missing cell is None or absent.
    """

    source: str
    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]


def read(source: object, name: str = "", *, limit: int = 0) -> Table:
    """Read rows.

    Args:
        source: a path, the id of a data set on the Hugging Face Hub, or a value: a DataFrame, a list of pairs,
            of dicts or of conversations, or a dict of questions and answers.
        name: what the person calls a value.
        limit: at most so many rows from the beginning; 0 for all.

    Raises:
        InputError: not there, not readable, or without rows.
        MissingPackageError: what Parquet or the Hub needs is not installed.
    """
    if isinstance(source, (str, Path)):
        table = _read_named(str(source), limit)
    else:
        table = _table(name or "the variable", _from_value(source, name or "the variable"))
    if limit:
        table = Table(table.source, table.columns, table.rows[:limit])
    if not table.columns:
        raise InputError(f"{table.source} holds no rows", "Give a file with a line for each example")
    return table


def _read_named(source: str, limit: int) -> Table:
    path = Path(os.path.expanduser(source))  # not Path's own, which raises where ~name is nobody here
    if os.path.isdir(path):  # not Path's own, which raises where a name is too long
        path = _in_folder(path)
    if os.path.isfile(path):
        return _table(str(path), _from_file(path))
    # Of a file's endings only those of rows: an id may hold a version, such as OpenHermes-2.5.
    if path.suffix.lower() not in SUFFIXES and _HUB_ID.fullmatch(source) and not source.startswith("."):
        return _table(source, _from_hub(source, limit))
    near = [entry.name for entry in path.parent.iterdir()] if os.path.isdir(path.parent) else []
    raise InputError(
        f"there is no file or folder {source}",
        did_you_mean(path.name, near) or "Give a .csv, .jsonl or .parquet file, or a variable",
    )


def _table(source: str, rows: Iterable[dict[str, Any]]) -> Table:
    kept = tuple({name: _plain(cell) for name, cell in row.items()} for row in rows)
    columns = tuple(dict.fromkeys(name for row in kept for name in row))
    return Table(source, columns, kept)


def _in_folder(folder: Path) -> Path:
    files = sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES and entry.is_file())
    train = [file for file in files if file.stem == "train"]
    chosen = train or files
    if len(chosen) == 1:
        return chosen[0]
    if not files:
        raise InputError(
            f"{folder} holds no file of rows", f"Put a train.csv or train.jsonl in it ({', '.join(SUFFIXES)})"
        )
    names = ", ".join(file.name for file in chosen[:4]) + (", …" if len(chosen) > 4 else "")
    raise InputError(f"{folder} holds several files: {names}", "Name one of them, or call it train.csv or train.jsonl")


def _from_file(path: Path) -> Iterable[dict[str, Any]]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet(path)
    if suffix not in SUFFIXES:
        raise InputError(f"{path.name} is no file of rows", f"It takes {', '.join(SUFFIXES)}")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "Look at its permissions") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path.name} is no {suffix[1:]} file in UTF-8: byte {error.start} is no text", "Save it as UTF-8"
        ) from error
    if "\0" in text[:8192]:
        raise InputError(f"{path.name} is no {suffix[1:]} file: it is binary", "Give it the ending of what it is")
    if suffix == ".json":
        return _json(text, path.name)
    return _json_lines(text, path.name) if suffix in (".jsonl", ".ndjson") else _csv(text, path.name, suffix)


def _csv(text: str, name: str, suffix: str) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(_LARGEST_CELL)
    delimiter = "\t" if suffix == ".tsv" else _delimiter(text)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        if text.lstrip().startswith(("{", "[{")):
            raise InputError(f"{name} holds JSON", f"Call it {Path(name).stem}.jsonl")
        _check_distinct(name, reader.fieldnames or ())
        for row in reader:
            if None in row:
                raise InputError(
                    f"{name} line {reader.line_num} has more cells than there are columns",
                    f"Put cells that hold {_DELIMITERS[delimiter]} or line ends in quotes",
                )
            yield row
    except csv.Error as error:
        raise InputError(
            f"{name} cannot be read after line {reader.line_num}: {error}", "Save it as CSV anew"
        ) from error


def _check_distinct(source: str, columns: Iterable[object]) -> None:
    """Refuse columns of the same name, of which a row would keep the last without a word."""
    for column, count in Counter(map(str, columns)).items():
        if count > 1 and column:  # Excel leaves columns without a name behind the last one, and without cells
            raise InputError(f"{source} has {count} columns that are called {column}", "Rename or delete all but one")


def _delimiter(text: str) -> str:
    """What cuts the line of column names into most: Excel writes semicolons where the comma is the decimal mark."""

    def columns(delimiter: str) -> int:
        return len(next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), []))

    return max(_DELIMITERS, key=columns)  # of equals the first


def _json_lines(text: str, name: str) -> Iterator[dict[str, Any]]:
    # Not splitlines(): it also cuts at characters that a JSON string may hold, such as U+2028.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(
                f"{name} line {number} is no JSON: {error}", "JSON Lines has one object a line, such as {...}"
            ) from error
        if not isinstance(row, dict):
            raise InputError(
                f"{name} line {number} is no object", 'A line is such as {"prompt": "…", "completion": "…"}'
            )
        yield row


def _json(text: str, name: str) -> list[dict[str, Any]]:
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise InputError(f"{name} is no JSON: {error}", "A file with one object a line ends in .jsonl") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{name} is no list of objects", 'It is such as [{"prompt": "…", "completion": "…"}]')
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingPackageError("pyarrow", "finetune") from error
    try:
        _check_distinct(path.name, pyarrow.parquet.read_schema(path).names)
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0][:120]
        raise InputError(f"{path.name} is no Parquet file: {reason}", "Give it the ending of what it is") from error
    return rows


def _from_hub(name: str, limit: int) -> Iterable[dict[str, Any]]:
    try:
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise MissingPackageError("datasets", "finetune") from error
    try:
        found = load_dataset(name, split=f"train[:{limit}]" if limit else "train")
    except (ConnectionError, HfHubHTTPError, DatasetsError, OSError, ValueError, RuntimeError) as error:
        # RuntimeError: the data set is made by a Python script, which the library does not run.
        remedy = "Look at the spelling and the network" if not isinstance(error, RuntimeError) else "Take another one"
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise InputError(
            f"{name} is no file here and cannot be had from the Hugging Face Hub: {reason}",
            f"{remedy}, or give a file",
        ) from error
    rows: list[dict[str, Any]] = found.to_list()
    return rows


def _from_value(value: Any, name: str) -> list[dict[str, Any]]:
    if hasattr(value, "to_dict") and hasattr(value, "columns"):  # a DataFrame of pandas
        _check_distinct(name, value.columns)
        return [{str(key): cell for key, cell in row.items()} for row in value.to_dict("records")]
    if hasattr(value, "to_list") and hasattr(value, "column_names"):  # a Dataset of the Hub's library
        return list(value.to_list())
    if isinstance(value, Mapping):
        if not all(isinstance(text, str) for text in value.values()):
            raise InputError(f"{name} is a dict whose values are no texts", "It takes {question: answer, …}")
        return [{"prompt": str(key), "completion": text} for key, text in value.items()]
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_item(item, f"{name}[{number}]") for number, item in enumerate(value)]
    raise InputError(
        f"{name} is a {type(value).__name__}",
        "It takes a DataFrame, a list of pairs, dicts or conversations, or a file",
    )


def _item(item: Any, name: str) -> dict[str, Any]:
    if isinstance(item, Mapping):
        return {str(key): cell for key, cell in item.items()}
    if hasattr(item, "input") and hasattr(item, "output"):  # an Example
        return {"prompt": item.input, "completion": item.output}
    if isinstance(item, str):
        return {"text": item}
    if isinstance(item, Sequence) and item and all(isinstance(turn, Mapping) for turn in item):
        return {"messages": list(item)}
    if isinstance(item, Sequence) and len(item) == 2 and all(isinstance(text, str) for text in item):
        return {"prompt": item[0], "completion": item[1]}
    raise InputError(
        f"{name} is a {type(item).__name__} that is no example",
        "It takes (question, answer), a dict, or a conversation",
    )


def _plain(cell: Any) -> Any:
    """A cell with lists in place of arrays and tuples, and None in place of what stands for a missing one."""
    if isinstance(cell, str):
        return cell
    if hasattr(cell, "tolist"):  # of NumPy, pandas or PyTorch
        cell = cell.tolist()
    if isinstance(cell, list | tuple):
        return [_plain(part) for part in cell]
    if isinstance(cell, Mapping):
        return {key: _plain(part) for key, part in cell.items()}
    return None if _is_missing(cell) else cell


def _is_missing(cell: Any) -> bool:
    """Whether a cell is one of the values that are not equal to themselves: NaN, or pandas' NaT and NA."""
    try:
        return bool(cell != cell)
    except (TypeError, ArithmeticError):  # NA and Decimal's sNaN refuse to say
        return True
    except ValueError:  # compares part by part
        return False
