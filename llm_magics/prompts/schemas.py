"""JSON schemas that answers follow: from a pydantic class, a dictionary or a file, and what an answer then holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import AnswerFormatError, InputError, MissingPackageError
from ..values.asking import AnswerSchema

_WANTED = "Give a pydantic class, a dictionary with a JSON schema, or a .json file"


def from_value(value: object, name: str) -> AnswerSchema:
    """Read a schema from a variable.

    Args:
        value: a pydantic class, or a JSON schema as a dictionary.
        name: what the person calls it.

    Raises:
        InputError: it is neither, or no valid JSON schema.
        MissingPackageError: jsonschema is not installed.
    """
    if isinstance(value, type) and hasattr(value, "model_json_schema"):
        try:
            return _checked(name, value.model_json_schema(), value)
        except (TypeError, ValueError, RuntimeError) as error:  # a field that JSON cannot hold, such as a function
            raise InputError(f"{name} has no JSON schema: {error}", _WANTED) from error
    if isinstance(value, Mapping):
        return _checked(name, value, None)
    what = "the class" if isinstance(value, type) else "a"
    raise InputError(f"{name} is {what} {getattr(value, '__name__', type(value).__name__)} and no schema", _WANTED)


def from_file(path: Path) -> AnswerSchema:
    """Read a schema from a JSON file.

    Args:
        path: the file, in UTF-8.

    Raises:
        InputError: it is not there, is no JSON, or holds no JSON schema.
        MissingPackageError: jsonschema is not installed.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a schema: {getattr(error, 'strerror', 0) or error}", _WANTED) from (
            error
        )
    if not isinstance(value, dict):
        raise InputError(f"{path.name} holds no JSON object", _WANTED)
    return _checked(path.name, value, None)


def parse(text: str, schema: AnswerSchema, *, cut: bool) -> object:
    """What an answer holds.

    Args:
        text: the model's answer.
        schema: what it follows.
        cut: whether the longest answer was reached.

    Returns:
        An instance of the schema's pydantic class where it has one, else plain JSON values.

    Raises:
        AnswerFormatError: the answer was cut off, or is not what the class itself checks beyond its schema.
    """
    from jsonschema import ValidationError

    try:
        value = json.loads(text)
        _validator(json.loads(schema.text)).validate(value)
        return value if schema.kind is None else schema.kind.model_validate(value)  # type: ignore[attr-defined]
    except ValidationError as error:
        reason = error.message
    except ValueError as error:  # JSON's, and pydantic's
        reason = str(error)
    shown = " ".join(text.split())
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    if cut:
        raise AnswerFormatError(
            f"the answer was cut off before it was a whole {schema.name}: {shown!r}", "Raise --max-new-tokens"
        )
    raise AnswerFormatError(f"the answer is no {schema.name} ({' '.join(reason.split())}): {shown!r}", "Ask again")


def fields(schema: AnswerSchema) -> tuple[str, ...]:
    """Names of the fields of an answer that is an object; none of another."""
    found = json.loads(schema.text).get("properties")
    return tuple(found) if isinstance(found, dict) else ()


def _checked(name: str, value: Mapping[str, Any], kind: type | None) -> AnswerSchema:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} holds what JSON cannot: {error}", _WANTED) from error
    try:
        from jsonschema import SchemaError
    except ImportError as error:
        raise MissingPackageError("jsonschema", "schema") from error
    try:
        _validator(json.loads(text)).check_schema(json.loads(text))
    except SchemaError as error:
        place = "".join(f"[{key!r}]" for key in error.path)
        raise InputError(f"{name}{place} is no JSON schema: {error.message}", "See json-schema.org/learn") from error
    return AnswerSchema(name, json.dumps(_closed(json.loads(text))), kind)


_JOINING = ("allOf", "anyOf", "oneOf", "if", "not", "$ref", "additionalProperties", "unevaluatedProperties")


def _closed(schema: Any) -> Any:
    """The schema with no fields but those it names, where it does not say otherwise.

    JSON Schema allows any others, and a small model then writes them without an end. What follows the closed schema
    follows the given one too. Parts that are joined with others are left as they are.
    """
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed: dict[str, Any] = {}
    for key, part in schema.items():
        if key in ("properties", "$defs", "definitions") and isinstance(part, dict):
            closed[key] = {name: _closed(inner) for name, inner in part.items()}
        else:
            closed[key] = part if key in ("allOf", "if", "not", "enum", "const") else _closed(part)
    if isinstance(schema.get("properties"), dict) and not any(key in schema for key in _JOINING):
        closed["additionalProperties"] = False
    return closed


def _validator(schema: Any) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for

    return validator_for(schema, default=Draft202012Validator)(schema)
