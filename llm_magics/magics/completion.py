"""Tab completes the flags of our magics, and the names of loaded models after ``-m``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.completer import CompletionContext, SimpleCompletion

from ..session import Session
from .declare import Declared

if TYPE_CHECKING:
    from .parsing import Parser

_MAGIC_LINE = re.compile(r"\s*(?:[^\W\d]\w*\s*=\s*)?%{1,2}(?P<name>\w+)\s+(?:.*\s)?(?P<word>\S*)$")


class Completion:
    """A matcher of IPython's completer.

    Args:
        session: whose models are offered.

    Attributes:
        magics: our magics by name.
    """

    matcher_identifier = "llm_magics"
    matcher_priority = 50
    matcher_api_version = 2

    def __init__(self, session: Session) -> None:
        self._session = session
        self.__qualname__ = type(self).__qualname__  # IPython asks each matcher for it, and a function has one
        self.magics: Mapping[str, Declared] = {}

    def __call__(self, context: CompletionContext) -> Any:
        """What may follow at the cursor."""
        found = _MAGIC_LINE.match(context.line_with_cursor[: context.cursor_position])
        if found is None or found["name"] not in self.magics:
            return {"completions": []}
        before = context.line_with_cursor[: context.cursor_position - len(found["word"])].split()
        words = self._words(self.magics[found["name"]].parser, before[-1], found["word"])
        matching = [word for word in words if word.startswith(found["word"])]
        return {
            "completions": [SimpleCompletion(text=word, type="param") for word in matching],
            "matched_fragment": found["word"],
            "suppress": bool(matching),
        }

    def _words(self, parser: Parser, before: str, word: str) -> list[str]:
        from ..aliases import MODELS
        from ..display.panel_state import METHODS as PANEL_METHODS
        from ..values.evaluation import METHODS, METRICS

        if before in ("-m", "--model"):
            return [info.name for info in self._session.models]
        if before in ("-n", "--kb"):
            return self._session.knowledge.names
        if before == "--method":
            return list(PANEL_METHODS)
        if before == "--metric":
            return list(METRICS)
        if before in ("--methods", "--models"):  # several with commas: those typed so far stay
            names = [*(METHODS if before == "--methods" else ()), *(info.name for info in self._session.models)]
            return [word[: word.rfind(",") + 1] + name for name in names]
        if before.endswith(("llm_load", "llm_unload")):
            names = [info.name for info in self._session.models]
            return names if before.endswith("unload") else [*MODELS, *parser.flags]
        return parser.flags
