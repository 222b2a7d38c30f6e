"""Everything a person can do wrong, as exceptions that print one line.

    LLMMagicsError
    ├── InputError             an option, a cell or a file that cannot be used as typed
    ├── SettingsError          a setting that does not exist or has a value it cannot have
    ├── MissingPackageError    an optional package is not installed
    ├── BusyError              the model is answering another cell
    ├── AnswerFormatError      the answer is not what ``--format`` asked for
    ├── KnowledgeError         a document or a knowledge base that cannot be used
    ├── TrainingError          a fine-tuning job that cannot start or has failed
    └── ModelError
        ├── ModelNotFoundError     no model of that name
        ├── ModelFileError         the files are there and cannot be read
        ├── GatedModelError        a licence has to be accepted on the Hub first
        ├── ModelTooLargeError     refused before loading: it would not fit
        ├── ContextLengthError     the prompt is longer than the model can read
        ├── OutOfMemoryError       memory ran out in the middle of an answer
        ├── ServerError            a server that cannot be reached, refuses, or does not speak the API
        └── AnswerBrokenError      a server ended in the middle of an answer; the partial answer is kept
    Interrupted (a KeyboardInterrupt)   a person stopped the cell; the partial answer is kept

The one line comes from ``_render_traceback_``, the hook that IPython's ``showtraceback`` looks for
on the exception. Every class raises, so that Run All, nbclient and papermill stop at the cell.
Exceptions that are not ours are bugs and keep their traceback.
"""

from __future__ import annotations

import builtins
import difflib
import re
import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .values.answers import Answer


# Control characters, halves of surrogate pairs, and what turns the direction of writing round.
_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MAGIC_NAME = re.compile(r"(?<![%\w])(%{1,2})((?:llm|fewshot|cot|rag)(?:_[a-z]+)?)\b")


class LLMMagicsError(Exception):
    """What went wrong, and what to type next.

    Args:
        message: what was wrong, in one line, without a full stop at the end.
        hint: what to type next. May be empty where the message says it.

    Attributes:
        answer: what came of it before it went wrong, so that nothing is lost; None where nothing did.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.answer: Any = None
        self.prefix = ""  # of the magics' names, where they were given one
        self.message = _one_line(message)
        self.hint = _one_line(hint)

    def __str__(self) -> str:
        text = f"{self.message}. {self.hint}" if self.hint else self.message
        return _MAGIC_NAME.sub(rf"\1{self.prefix}\2", text) if self.prefix else text

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


def _one_line(text: str) -> str:
    """A text that may quote files and manifests, so that it stays on its line and steers no terminal."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), " ".join(text.split()))


class InputError(LLMMagicsError):
    """An option, a cell or a file that cannot be used as typed."""


class SettingsError(LLMMagicsError):
    """A setting that does not exist, or a value it cannot have."""


class MissingPackageError(LLMMagicsError):
    """An optional package is not installed.

    Args:
        package: the import name that was not found.
        extra: the extra of llm_magics that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed", f'Type %pip install "llm_magics[{extra}]"')
        self.package, self.extra = package, extra


class BusyError(LLMMagicsError):
    """The model is answering another cell."""


class AnswerFormatError(LLMMagicsError):
    """The answer is not what ``--format`` asked for; ``answer`` is as the model gave it."""

    def __init__(self, message: str, hint: str = "", *, answer: Answer | None = None) -> None:
        super().__init__(message, hint)
        self.answer = answer


class KnowledgeError(LLMMagicsError):
    """A document that cannot be read, or a knowledge base that cannot be opened or added to."""


class TrainingError(LLMMagicsError):
    """A fine-tuning job that cannot start, cannot be found, or has failed."""


class ModelError(LLMMagicsError):
    """A model that cannot be opened or cannot go on."""


class ModelNotFoundError(ModelError):
    """No model of that name."""


class ModelFileError(ModelError):
    """The files are there and cannot be read."""


class GatedModelError(ModelError):
    """A licence has to be accepted on the Hugging Face Hub first."""


class ModelTooLargeError(ModelError):
    """Refused before loading: the model would not fit in the free memory or on the disk."""


class ContextLengthError(ModelError):
    """The prompt is longer than the model can read."""


class OutOfMemoryError(ModelError):
    """Memory ran out in the middle of an answer."""


class ServerError(ModelError):
    """A server cannot be reached, refuses, or does not speak the API.

    Attributes:
        status: of HTTP; 0 where there was none.
        said: the server's own words, all of them; empty where it said nothing.
        retry_after: seconds that the server asks to wait; 0 where it asks for none.
        passing: whether the same request may go through a moment later, though there is no status that says so.
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        status: int = 0,
        *,
        said: str = "",
        retry_after: float = 0.0,
        passing: bool = False,
    ) -> None:
        super().__init__(message, hint)
        self.status = status
        self.said = said
        self.retry_after = retry_after
        self.passing = passing

    @property
    def may_pass(self) -> bool:
        """Whether the same request may go through later: the server is busy, fails, or cannot be reached."""
        return self.passing or self.status in (408, 409, 425, 429) or self.status >= 500


class AnswerBrokenError(ModelError):
    """A server ended in the middle of an answer."""

    def __init__(self, message: str, hint: str = "", *, answer: Answer | None = None) -> None:
        super().__init__(message, hint)
        self.answer = answer


class Interrupted(KeyboardInterrupt):
    """A person stopped the cell.

    A ``KeyboardInterrupt``, so that nothing on the way swallows it as an ordinary error.

    Attributes:
        answer: the partial answer or the part of an evaluation that is done, or None where there is none.
    """

    def __init__(self, message: str, *, answer: Any = None) -> None:
        super().__init__(message)
        self.prefix = ""
        self.answer = answer

    def _render_traceback_(self) -> list[str]:
        return [f"KeyboardInterrupt: {self.args[0]}"]


def release(error: BaseException) -> None:
    """Drop what the frames of an error and of its causes hold: they would keep a model in memory.

    The notebook keeps the last error until the next one. Ours show one line, so nobody looks at
    their frames; those that are still running are left alone.
    """
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen = seen.__cause__ or seen.__context__


def own_names(namespace: Iterable[str]) -> list[str]:
    """The names that a person gave, without Python's and IPython's: nobody who types ``nope`` means ``open``.

    Args:
        namespace: all names that an expression in the notebook may use.
    """
    others = {*dir(builtins), "In", "Out", "get_ipython"}
    return [name for name in namespace if not name.startswith("_") and name not in others]


def did_you_mean(word: str, known: Iterable[str], *, count: int = 1) -> str:
    """The nearest known names as a phrase to end an error with.

    Args:
        word: what was typed.
        known: the names there are.
        count: how many names to offer at most.

    Returns:
        For example ``"Did you mean --temperature?"``; empty where nothing is near.
    """
    names = list(dict.fromkeys(known))
    begun = [name for name in names if name.startswith(word)] if len(word.strip("-")) > 2 else []
    near = begun + [name for name in difflib.get_close_matches(word, names, n=count, cutoff=0.6) if name not in begun]
    near = near[:count]
    return f"Did you mean {' or '.join(near)}?" if near else ""
