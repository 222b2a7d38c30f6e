"""Ends an answer at a stop text, also where the text comes in several pieces."""

from __future__ import annotations

from collections.abc import Sequence


class StopTexts:
    """Lets text through until one of the stop texts appears; the stop text itself is dropped.

    What could still become a stop text is held back until it is clear.

    Args:
        texts: the stop texts; none lets everything through at once.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = tuple(texts)
        self._held = ""
        self.found = False

    def push(self, piece: str) -> str:
        """Take the next piece; return what may be shown."""
        text = self._held + piece
        hits = [at for at in (text.find(stop) for stop in self._texts) if at >= 0]
        if hits:
            self.found, self._held = True, ""
            return text[: min(hits)]
        keep = max((self._overlap(text, stop) for stop in self._texts), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back and did not become a stop text."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Length of the longest end of ``text`` that begins ``stop``."""
        return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if stop.startswith(text[-n:])), 0)
