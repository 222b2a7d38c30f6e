"""Fine-tuning: rows and options that go in, what was understood of them, and a job as it stands."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from ..errors import InputError

GENERAL, NO_GENERAL = "general", "none"
"""Of ``--mix``: held to the base on our own everyday texts, or to nothing."""


@dataclass(frozen=True, slots=True)
class RowSource:
    """Where the rows to train on come from.

    Attributes:
        source: a path, a Hub id, or a value.
        name: what the person calls a value.
        limit: at most so many rows; 0 for all.
        prompt_column: the column with the questions, where its name does not say so.
        completion_column: the column with the answers.
        text_column: the column with whole texts, where its name does not say so or others would be taken.
    """

    source: object
    name: str = ""
    limit: int = 0
    prompt_column: str = ""
    completion_column: str = ""
    text_column: str = ""


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
        mix: what is done against forgetting: ``general`` holds the tuned model to its base on everyday texts, a
            file's rows are trained along instead, ``none`` leaves it. Empty for ``general`` where it can be.
        processes: processes a machine, one a GPU.
        nodes: machines.
        background: whether the job goes on where no notebook watches it.
        trust_remote_code: whether Python code that comes with the model may run.
        revision: of the base on the Hub; empty for the default branch.
        chat_template: name or file of a chat template in place of the base's own; empty keeps that.

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
    revision: str = ""
    chat_template: str = ""

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
        if self.packing and self.trainer != "sft":
            raise InputError(f"--packing joins texts, and {self.trainer} compares pairs", "Leave --packing out")
        if self.mix == GENERAL and not self.can_hold:
            raise InputError("--mix general is for --trainer sft and --backend trl", "Leave --mix out, or name a file")
        above = "a number above 0, such as "
        checks = [
            ("--epochs", self.epochs, 0, 10**4, "a number above 0 and below 10000, such as 3"),
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
        if self.valid_split > 1 and self.valid_split % 1:
            raise InputError(
                f"--valid-split is {self.valid_split:g}", "It takes a share such as 0.1, or a number of rows"
            )
        for flag, value, least, most, wanted in checks:
            if value is not None and not least < value < most:  # NaN fails every comparison, so it lands here too
                raise InputError(f"{flag} is {value:g}", f"It takes {wanted}")

    @property
    def can_hold(self) -> bool:
        """Whether its trainer can hold the tuned model to its base on everyday texts."""
        return self.trainer == "sft" and self.backend == "trl"


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What was understood of the rows to train on, in the figures that a person checks before a job starts.

    Attributes:
        source: the file, folder, Hub id or variable.
        shape: what the columns were taken for, such as ``prompt and completion``.
        rows: rows that are trained on, with those of ``--mix``.
        valid_rows: rows held out for validation.
        mixed_rows: rows of ``--mix`` among ``rows``.
        tokens: tokens of the training rows.
        trained_tokens: those of them that the loss is taken on: the answers.
        longest: tokens of the longest row.
        dropped: reasons for which rows were left out, each with how many.
        first: the first row as the model will see it, in pieces, each with whether it is what the model is to write.
        steps: optimizer steps of the job.
        seconds: what the cell may take, with opening and trying out, in seconds; a rough guess.
        warnings: what will hardly work, each with what to change.
        general_rows: everyday texts on which the tuned model is held to what the base says, against forgetting.
        recipe: name, base and how it is trained, in short pieces.
    """

    source: str
    shape: str
    rows: int
    valid_rows: int
    mixed_rows: int
    tokens: int
    trained_tokens: int
    longest: int
    dropped: tuple[tuple[str, int], ...]
    first: tuple[tuple[str, bool], ...]
    steps: int
    seconds: float
    warnings: tuple[str, ...] = ()
    general_rows: int = 0
    recipe: tuple[str, ...] = ()


TrainingState = Literal["running", "done", "stopped", "failed", "killed"]
"""``done``: came to its last step. ``stopped``: a person stopped it. ``failed``: it ended with an error.
``killed``: its process is gone without a word."""


@dataclass(frozen=True, slots=True)
class TrainingEvent:
    """Something that a fine-tuning job did.

    Attributes:
        kind: ``start`` (a process began), ``phase`` (``text`` says what it does), ``begin`` (training begins
            after ``step`` steps of an earlier process), ``step``, ``eval``, ``save`` (a checkpoint), ``merged``,
            ``end``, ``stopped`` or ``error`` (``text`` says what).
        time: seconds since 1970.
        step: optimizer steps done.
        total: optimizer steps of the whole job.
        epoch: how often every row has been seen.
        loss: mean negative log-likelihood of the trained tokens of this step, in nats.
        valid_loss: the same over the validation rows.
        learning_rate: of this step.
        tokens: tokens of the rows that have been read since ``begin``, by all processes together.
        memory: bytes that it takes, on the GPU where it has one.
        text: words for a person.
    """

    kind: str
    time: float
    step: int = 0
    total: int = 0
    epoch: float = 0.0
    loss: float | None = None
    valid_loss: float | None = None
    learning_rate: float | None = None
    tokens: int = 0
    memory: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A fine-tuning job as it stands.

    Attributes:
        name: of the job and of the tuned model.
        state: see ``TrainingState``.
        base: the model it trains on, as a person typed it.
        folder: where everything of it lies.
        trainer: ``sft``, ``dpo`` or ``orpo``.
        backend: ``trl`` or ``autotrain``.
        events: what it did, in order; steps that a later process did again are there once.
        adapter: folder of the adapter; empty where there is none yet.
        merged: folder of the merged model; empty where there is none.
        text: why it failed or ended before its last step, or what else there is to say of its end; else empty.
    """

    name: str
    state: TrainingState
    base: str
    folder: str
    trainer: str
    backend: str
    events: tuple[TrainingEvent, ...] = ()
    adapter: str = ""
    merged: str = ""
    text: str = ""

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return max((event.step for event in self.events), default=0)

    @property
    def total(self) -> int:
        """Optimizer steps of the whole job; 0 before it is known."""
        return max((event.total for event in self.events), default=0)

    @property
    def losses(self) -> tuple[tuple[int, float], ...]:
        """Step and training loss."""
        return tuple((event.step, event.loss) for event in self.events if event.loss is not None)

    @property
    def valid_losses(self) -> tuple[tuple[int, float], ...]:
        """Step and validation loss."""
        return tuple((event.step, event.valid_loss) for event in self.events if event.valid_loss is not None)


@dataclass(frozen=True, slots=True)
class TriedOut:
    """A question that was asked of a base and of the model tuned on it.

    Attributes:
        kind: ``held out`` or ``trained on`` for rows of the data, or ``unrelated``: what it loses is forgotten.
        question: what was asked.
        expected: what the data says; for an unrelated question what a right answer holds.
        before: the base's answer.
        after: the tuned model's.
        before_cut: whether the base's answer was cut, since no more tokens were asked for.
        after_cut: whether the tuned model's was.
    """

    kind: str
    question: str
    expected: str
    before: str
    after: str
    before_cut: bool = False
    after_cut: bool = False

    @property
    def right_before(self) -> bool:
        """Whether the base's answer holds what was expected, letters and digits compared, or, cut, is how it begins."""
        return _holds(self.before, self.expected, cut=self.before_cut)

    @property
    def right_after(self) -> bool:
        """The same of the tuned model's."""
        return _holds(self.after, self.expected, cut=self.after_cut)

    @property
    def too_long(self) -> bool:
        """Whether the tuned model's answer was cut before it could have said all that was expected."""
        return self.after_cut and len(self.expected.strip()) > len(self.after)


def _holds(answer: str, expected: str, *, cut: bool) -> bool:
    said, wanted = _words(answer), _words(expected)
    if not wanted.strip():  # nothing but signs, such as an emoji: no word is left to compare
        said, wanted = answer.strip(), expected.strip()
        return said == wanted or (cut and bool(said) and wanted.startswith(said))
    # The last word of what was cut may be the beginning of one.
    return wanted in said or (cut and bool(said.strip()) and wanted.startswith(said.rstrip()))


def _words(text: str) -> str:
    """The words of a text, each between blanks."""
    words = " ".join(re.findall(r"\w+", text.casefold()))
    return f" {words} "
