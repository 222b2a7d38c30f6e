"""The values that go in: messages, examples, options, and the exact prompt made of them.

All are frozen and hold no reference to a model, so that a prompt can be built, shown and compared
without one.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from .errors import InputError, did_you_mean

Role = Literal["system", "user", "assistant"]

SEARCHES = ("hybrid", "dense", "keyword")
"""The ways to search a knowledge base: both joined, by meaning, by words."""
_SEARCH_HINT = f"It takes {', '.join(SEARCHES)}"


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
        title: what a person calls the source, where it is not its name; may be empty.
        matches: where words of the question stand, as pairs of offsets into ``text``.
    """

    text: str
    source: str
    start: int
    end: int
    place: str = ""
    score: float = 0.0
    number: int = 0
    title: str = ""
    matches: tuple[tuple[int, int], ...] = ()

    @property
    def name(self) -> str:
        """What the passage is called on the page: its source's title or name, and its place there."""
        return " · ".join(part for part in (self.title or self.source, self.place) if part)


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


@dataclass(frozen=True, slots=True)
class RetrievalRequest:
    """Which passages are looked for. What is None is taken from the settings.

    Attributes:
        knowledge_base: its name; empty for the one used last.
        k: passages at most.
        search: ``hybrid``, ``dense`` or ``keyword``.
        min_score: from 0 to 1; passages below are left out.
        diversity: from 0 to 1; how much a passage loses by being like one before it.
        rerank: a cross-encoder that orders what was found; empty for none.

    Raises:
        InputError: a value out of range, in one line that names the option.
    """

    knowledge_base: str = ""
    k: int | None = None
    search: str = "hybrid"
    min_score: float = 0.0
    diversity: float = 0.0
    rerank: str = ""

    def __post_init__(self) -> None:
        if self.search not in SEARCHES:
            raise InputError(f"--search is {self.search}", did_you_mean(self.search, SEARCHES) or _SEARCH_HINT)
        if self.k is not None and self.k < 1:
            raise InputError(f"-k is {self.k}", "It takes a whole number from 1, such as 4")
        for name, value in (("--min-score", self.min_score), ("--diversity", self.diversity)):
            if not 0 <= value <= 1:
                raise InputError(f"{name} is {value}", "It takes a number from 0 to 1, such as 0.3")


@dataclass(frozen=True, slots=True)
class Splitting:
    """How documents are cut; see ``knowledge.splitting.split``.

    Attributes:
        splitter: ``recursive``, ``character``, ``markdown``, ``html``, ``code``, ``token``, or ``none`` for one
            chunk a document.
        size: longest chunk in characters, with ``token`` in tokens; 0 for the splitter's own.
        overlap: what two neighbours share, in the same unit.
    """

    splitter: str = "recursive"
    size: int = 0
    overlap: int = 0


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """What to train and how. What is None is chosen by ``finetuning.spec`` from the model and the data.

    Attributes:
        name: name of the job, of its folder, and of the tuned model.
        base: the model to train on, as ``ModelRequest.model``.
        trainer: ``sft`` (next tokens of the answers), ``dpo`` (Rafailov et al. 2023, arXiv:2305.18290) or
            ``orpo`` (Hong et al. 2024, arXiv:2403.07691), both of which learn from preference pairs.
        backend: ``trl`` or ``autotrain``.
        epochs: how often every row is seen; may be broken, such as 1.5.
        learning_rate: of the first step; it falls linearly to 0.
        batch_size: rows a process reads at once.
        gradient_accumulation: batches that make one optimizer step.
        lora_r: rank of the adapter (LoRA, Hu et al. 2021, arXiv:2106.09685).
        lora_alpha: the adapter's output is scaled by ``lora_alpha / lora_r``.
        lora_dropout: share of the adapter's inputs that is left out while it trains.
        target_modules: names of the layers that get an adapter; ``all-linear`` for every matrix but the head.
        quantization: of the base while it trains: ``none``, ``nf4`` (QLoRA, arXiv:2305.14314) or ``int8``.
        max_length: longest row in tokens; longer ones are left out.
        packing: whether rows are joined to blocks of ``max_length``.
        valid_split: share of the rows, or their number where it is 1 or more, that is held out for validation.
        seed: of the adapter's first weights and of the order of the rows.
        merge_adapter: whether a model with the adapter merged in is written too.
        mix: a file of general rows that are trained along, against forgetting; empty for none.
        processes: processes a machine, one a GPU.
        nodes: machines.
        background: whether the job goes on where no notebook watches it.
        trust_remote_code: whether Python code that comes with the model may run.

    Raises:
        InputError: a value out of range, in one line that names the option.
    """

    name: str
    base: str
    trainer: str = "sft"
    backend: str = "trl"
    epochs: float | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    gradient_accumulation: int = 1
    lora_r: int = 16
    lora_alpha: int | None = None
    lora_dropout: float = 0.0
    target_modules: tuple[str, ...] = ("all-linear",)
    quantization: str = "none"
    max_length: int | None = None
    packing: bool = False
    valid_split: float = 0.0
    seed: int = 42
    merge_adapter: bool = False
    mix: str = ""
    processes: int = 1
    nodes: int = 1
    background: bool = False
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,49}", self.name):
            raise InputError(
                f"--name is {self.name!r}", "It takes letters, digits and hyphens, at most 50, such as my-tuned"
            )
        named = [
            ("--trainer", self.trainer, ("sft", "dpo", "orpo")),
            ("--backend", self.backend, ("trl", "autotrain")),
            ("--quantization", self.quantization, ("none", "nf4", "int8")),
        ]
        for flag, word, words in named:
            if word not in words:
                raise InputError(f"{flag} is {word}", f"It takes {', '.join(words)}")
        above = "a number above 0, such as "
        checks = [
            ("--epochs", self.epochs, 0, 10**4, above + "3"),
            ("--lr", self.learning_rate, 0, 1, "a number above 0 and below 1, such as 2e-4"),
            ("--batch-size", self.batch_size, 0.5, math.inf, "a whole number from 1, such as 4"),
            ("--gradient-accumulation", self.gradient_accumulation, 0.5, math.inf, "a whole number from 1, such as 4"),
            ("--lora-r", self.lora_r, 0.5, math.inf, "a whole number from 1, such as 16"),
            ("--lora-alpha", self.lora_alpha, 0, math.inf, above + "32"),
            ("--lora-dropout", self.lora_dropout, -1e-9, 1, "a number from 0 and below 1, such as 0.05"),
            ("--max-length", self.max_length, 7.5, math.inf, "a whole number from 8, such as 1024"),
            ("--valid-split", self.valid_split, -1e-9, math.inf, "a share such as 0.1, or a number of rows such as 50"),
            ("--processes", self.processes, 0.5, math.inf, "a whole number from 1, such as 2"),
            ("--nodes", self.nodes, 0.5, math.inf, "a whole number from 1, such as 2"),
            ("--seed", self.seed, -0.5, 2**32, "a whole number from 0 and below 2**32"),
        ]
        for flag, value, least, most, wanted in checks:
            if value is not None and not least < value < most:  # NaN fails every comparison, so it lands here too
                raise InputError(f"{flag} is {value}", f"It takes {wanted}")
