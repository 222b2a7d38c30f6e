"""What the fields of a panel hold, as a value."""

from __future__ import annotations

from dataclasses import dataclass

METHODS = {
    "llm": "plain question",
    "fewshot": "worked examples",
    "cot": "chain of thought",
    "rag": "own documents",
}
"""The methods that a panel offers, and what each is called on the page."""


@dataclass(frozen=True)
class PanelState:
    """The fields of a panel. What a person has not changed is empty, so that its default holds.

    Attributes:
        method: ``llm``, ``fewshot``, ``cot`` or ``rag``.
        model: name of a loaded model; empty for the only one, or for the default one where none is loaded.
        system: system message; empty for the setting.
        prompt: the question, as typed.
        temperature: None for the method's own.
        max_new_tokens: None for the setting.
        seed: as typed; empty for none.
        instruction: fewshot: what to do.
        examples: fewshot: lines of ``input => output``, or blocks between lines of ``---``.
        examples_from: fewshot: a variable or a file with more examples.
        k: fewshot: how many examples, as typed; empty for all.
        select: fewshot: ``all``, ``first``, ``balanced`` or ``similar``.
        choices: fewshot: the only possible answers, with commas.
        strategy: cot: ``steps``, ``plan`` or ``zero-shot``.
        votes: cot: how many chains.
        knowledge_base: rag: its name; empty for the only one.
        passages: rag: how many the model reads, as typed; empty for the default.
        as_typed: whether ``{{...}}`` is left as it is.
    """

    method: str = "llm"
    model: str = ""
    system: str = ""
    prompt: str = ""
    temperature: float | None = None
    max_new_tokens: int | None = None
    seed: str = ""
    instruction: str = ""
    examples: str = ""
    examples_from: str = ""
    k: str = ""
    select: str = "all"
    choices: str = ""
    strategy: str = "steps"
    votes: int = 1
    knowledge_base: str = ""
    passages: str = ""
    as_typed: bool = False

    @property
    def has_braces(self) -> bool:
        """Whether some text holds ``{{``, which a cell fills in."""
        texts = (self.system, self.prompt, self.instruction, self.examples, self.examples_from, self.choices)
        return any("{{" in text for text in texts)


@dataclass(frozen=True)
class Shown:
    """One answer of a panel, as it is shown and saved.

    Attributes:
        cell: the magic cell that gave it.
        bundle: the card as HTML, and the answer as plain text.
    """

    cell: str
    bundle: dict[str, str]
