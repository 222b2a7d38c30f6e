"""Which fields an answer may have."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_magics.prompts.schemas import fields, from_value

OPEN: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}
CLOSED = {**OPEN, "additionalProperties": False}


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (OPEN, CLOSED),
        ({**OPEN, "additionalProperties": True}, {**OPEN, "additionalProperties": True}),
        ({"type": "array", "items": OPEN}, {"type": "array", "items": CLOSED}),
        ({"$defs": {"x": OPEN}, "$ref": "#/$defs/x"}, {"$defs": {"x": CLOSED}, "$ref": "#/$defs/x"}),
        ({"allOf": [OPEN, OPEN]}, {"allOf": [OPEN, OPEN]}),
        ({"anyOf": [OPEN, {"type": "null"}]}, {"anyOf": [CLOSED, {"type": "null"}]}),
        ({"enum": [{"properties": {}}]}, {"enum": [{"properties": {}}]}),
    ],
)
def test_a_schema_names_all_the_fields_unless_it_says_otherwise(given: dict[str, Any], read: dict[str, Any]) -> None:
    assert json.loads(from_value(given, "wanted").text) == read


def test_the_fields_are_those_of_an_object() -> None:
    assert fields(from_value(OPEN, "wanted")) == ("a",)
    assert fields(from_value({"type": "integer"}, "wanted")) == ()
