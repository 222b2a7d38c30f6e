"""How a question is asked: the generation options, the form of the answer, and what a person set of both."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import InputError


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
        schema: a JSON schema as JSON text that the answer follows (constrained decoding); empty for free text.

    Raises:
        InputError: a value out of range, in one line that names the option.
    """

    temperature: float = 0.1
    top_p: float = 1.0
    max_new_tokens: int = 500
    repetition_penalty: float = 1.1
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: str = ""

    def __post_init__(self) -> None:
        checks = [
            ("--temperature", self.temperature, 0 <= self.temperature <= 2, "a number from 0 to 2, such as 0.7"),
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
class AnswerSchema:
    """The form that an answer is held to.

    Attributes:
        name: what the person calls it.
        text: a JSON schema as JSON text.
        kind: the pydantic class that the answer becomes; None for plain JSON values.
    """

    name: str
    text: str
    kind: type | None = None


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
        schema: the form that the answer is held to.

    Raises:
        InputError: an option that does not go with a schema.
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
    schema: AnswerSchema | None = None

    def __post_init__(self) -> None:
        if self.schema is not None and self.format not in ("", "json"):
            raise InputError(f"--format {self.format} does not go with --schema", "Leave --format out: it is JSON")
        if self.schema is not None and self.stop:
            raise InputError("--stop would end the answer before it is whole", "Leave it out with --schema")
