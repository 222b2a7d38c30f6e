"""Tab completes the flags of our magics, and the names of loaded models after ``-m``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion

from ..aliases import MODELS
from ..session import Session
from .parsing import Parser

_MAGIC_LINE = re.compile(r"\s*(?:[^\W\d]\w*\s*=\s*)?%{1,2}(?P<name>\w+)\s+(?:.*\s)?(?P<word>\S*)$")


class Completion:
    """A matcher of IPython's completer.

    Args:
        session: whose models are offered.

    Attributes:
        parsers: our magics' parsers by name.
    """

    matcher_identifier = "llm_magics"
    matcher_priority = 50
    matcher_api_version = 2

    def __init__(self, session: Session) -> None:
        self._session = session
        self.__qualname__ = type(self).__qualname__  # IPython asks each matcher for it, and a function has one
        self.parsers: Mapping[str, Parser] = {}

    def __call__(self, context: CompletionContext) -> Any:
        """What may follow at the cursor."""
        found = _MAGIC_LINE.match(context.line_with_cursor[: context.cursor_position])
        if found is None or found["name"] not in self.parsers:
            return {"completions": []}
        before = context.line_with_cursor[: context.cursor_position - len(found["word"])].split()
        words = self._words(self.parsers[found["name"]], before[-1])
        matching = [word for word in words if word.startswith(found["word"])]
        return {
            "completions": [SimpleCompletion(text=word, type="param") for word in matching],
            "matched_fragment": found["word"],
            "suppress": bool(matching),
        }

    def _words(self, parser: Parser, before: str) -> list[str]:
        if before in ("-m", "--model"):
            return [info.name for info in self._session.models]
        if before in ("-n", "--kb"):
            return self._session.knowledge.names
        if before.endswith(("llm_load", "llm_unload")):
            names = [info.name for info in self._session.models]
            return names if before.endswith("unload") else [*MODELS, *parser.flags]
        return parser.flags
