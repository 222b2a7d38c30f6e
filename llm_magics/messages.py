"""The values that go in: messages, examples, options, and the exact prompt made of them.

All are frozen and hold no reference to a model, so that a prompt can be built, shown and compared
without one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from .errors import InputError

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str

    def as_dict(self) -> dict[str, str]:
        """The form that chat templates and servers take: ``{"role": ..., "content": ...}``."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Example:
    """A worked example: what is put in and what should come out."""

    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that was found for a question.

    Attributes:
        text: what stands there.
        source: path, URL, or name of the cell or variable.
        start: where it begins, in characters of the source's text.
        end: where it ends.
        place: heading path, page or lines, as a short text; may be empty.
        score: how well it fits the question, from 0 to 1.
        number: which chunk of its source it begins with, from 0.
    """

    text: str
    source: str
    start: int
    end: int
    place: str = ""
    score: float = 0.0
    number: int = 0


@dataclass(frozen=True, slots=True)
class Prompt:
    """What goes to the model.

    Attributes:
        messages: the turns, in order.
        text: the exact text after the chat template.
        token_count: its length in the model's tokens.
    """

    messages: tuple[Message, ...]
    text: str
    token_count: int


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """How the next tokens are chosen.

    Attributes:
        temperature: 0 takes the most probable token each time (greedy); above 0 samples.
        top_p: nucleus sampling, Holtzman et al. 2020 (arXiv:1904.09751): the share of probability
            that is sampled from, above 0 and up to 1.
        max_new_tokens: the longest answer, in tokens.
        repetition_penalty: Keskar et al. 2019 (arXiv:1909.05858); 1 leaves the logits alone.
        seed: the random seed for sampling; None draws one, and the answer says which.
        stop: texts at which the answer ends; they are not part of it.

    Raises:
        InputError: a value out of range, in one line that names the option.
    """

    temperature: float = 0.1
    top_p: float = 1.0
    max_new_tokens: int = 500
    repetition_penalty: float = 1.1
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checks = [
            ("--temperature", self.temperature, 0 <= self.temperature <= 100, "a number from 0 to 100, such as 0.7"),
            ("--top-p", self.top_p, 0 < self.top_p <= 1, "a number above 0 and up to 1, such as 0.9"),
            ("--max-new-tokens", self.max_new_tokens, self.max_new_tokens >= 1, "a whole number from 1, such as 500"),
            (
                "--repetition-penalty",
                self.repetition_penalty,
                0 < self.repetition_penalty < math.inf,
                "a number above 0, such as 1.1",
            ),
            ("--seed", self.seed or 0, 0 <= (self.seed or 0) < 2**63, "a whole number from 0"),
        ]
        for name, value, good, wanted in checks:
            if not good:  # NaN fails every comparison, so it lands here too
                raise InputError(f"{name} is {value}", f"It takes {wanted}")
        if any(not text for text in self.stop):
            raise InputError("--stop is empty", 'It takes a text, such as --stop "END"')

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is taken each time."""
        return self.temperature == 0


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What to open, and how. Two equal requests open the same thing.

    Attributes:
        model: alias, Hugging Face Hub id, local folder, or path of a ``.gguf`` file.
        quantize: ``auto``, ``nf4`` (4-bit, QLoRA, arXiv:2305.14314), ``int8`` (arXiv:2208.07339) or ``none``.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``: the type of weights that are not quantized.
        device_map: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        revision: branch, tag or commit on the Hub; empty for the default branch.
        chat_template: a Jinja chat template that replaces the tokenizer's own; empty keeps that.
        context: the longest prompt with its answer, in tokens; 0 for the model's own.
        trust_remote_code: whether Python code that comes with the model may run.
        engine: what runs it: ``auto``, ``transformers``, or ``llamacpp`` for ``.gguf`` files.
    """

    model: str
    quantize: str = "auto"
    dtype: str = "auto"
    device_map: str = "auto"
    revision: str = ""
    chat_template: str = ""
    context: int = 0
    trust_remote_code: bool = False
    engine: str = "auto"


@dataclass(frozen=True, slots=True)
class AskRequest:
    """How a question is asked. What is None or empty is taken from the settings and the method.

    Attributes:
        model: name of a loaded model; empty for the one loaded last.
        system: system message; None for the setting, empty for none.
        temperature: see ``GenerationOptions``, as the five after it.
        top_p: share of probability that is sampled from.
        max_new_tokens: longest answer in tokens.
        repetition_penalty: 1 leaves the logits alone.
        seed: random seed.
        stop: texts at which the answer ends.
        format: ``markdown``, ``text``, ``json`` or ``code``.
        history: whether the conversation so far is sent and this exchange is kept.
        cell: identity of the notebook cell that asks; empty where there is none.
        run: which execution of the cell this is.
    """

    model: str = ""
    system: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_new_tokens: int | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    format: str = ""
    history: bool = True
    cell: str = ""
    run: int = 0
