"""AutoTrain's command lines of 2023 and of today, as options of ``%llm_finetune``.

The source tutorial's own line so works as it stands there, and whoever knows AutoTrain finds its words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# AutoTrain's or the Hub libraries' flag, without dashes and with hyphens -> ours; empty where it is DATA.
_VALUES = {
    "project-name": "--name", "model": "--base", "data-path": "",
    "learning-rate": "--lr", "num-train-epochs": "--epochs", "train-batch-size": "--batch-size",
    "gradient-accumulation-steps": "--gradient-accumulation", "block-size": "--max-length",
    "model-max-length": "--max-length", "lora-r": "--lora-r", "lora-alpha": "--lora-alpha",
    "lora-dropout": "--lora-dropout", "target-modules": "--target-modules", "lr": "--lr", "epochs": "--epochs",
    "batch-size": "--batch-size", "gradient-accumulation": "--gradient-accumulation", "trainer": "--trainer",
    "seed": "--seed", "quantization": "--quantization", "text-column": "--text-column",
    "prompt-text-column": "--prompt-column", "per-device-train-batch-size": "--batch-size", "lora-rank": "--lora-r",
    "max-seq-length": "--max-length",
}  # fmt: skip
_SWITCHES = {
    "train": (), "use-peft": (), "peft": (), "use-int4": ("--quantization", "nf4"),
    "use-int8": ("--quantization", "int8"), "merge-adapter": ("--merge-adapter",), "text-generation": (),
    "disable-gradient-checkpointing": (), "unsloth": (),
}  # fmt: skip
_QUANTIZATIONS = {"int4": "nf4"}
# These are left out: what they ask for is done otherwise here, or always.
_LEFT_OUT = {
    "mixed-precision", "warmup-ratio", "padding", "logging-steps", "optimizer", "scheduler", "weight-decay",
    "max-grad-norm", "log", "eval-strategy", "save-total-limit", "chat-template", "train-split", "unsloth",
}  # fmt: skip
# transformers' own names, which people type from habit on any line.
_TRANSFORMERS = {
    "learning-rate", "num-train-epochs", "per-device-train-batch-size", "gradient-accumulation-steps",
    "lora-rank", "max-seq-length",
}  # fmt: skip
_COMMAND = ("!autotrain", "autotrain", "llm")  # how its line begins in a shell
# These are AutoTrain's alone: with one of them on the line, it is one of AutoTrain's.
_MARKS = {
    "train", "project-name", "data-path", "use-peft", "peft", "use-int4", "use-int8", "train-batch-size", "block-size",
    "disable-gradient-checkpointing", "prompt-text-column",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Translated:
    """A line in our own options.

    Attributes:
        words: what ``%llm_finetune`` takes.
        changes: pairs of another's flag and ours; empty for a line that was ours.
        is_autotrains: whether the line is one of AutoTrain's, which then trains it.
    """

    words: tuple[str, ...]
    changes: tuple[tuple[str, str], ...]
    is_autotrains: bool


def translate(words: Sequence[str]) -> Translated:
    """AutoTrain's line in our own options; of a line of ours only transformers' names of them are changed.

    Args:
        words: the words of the line, such as ``["--train", "--project_name", "Llama-Chat"]``.
    """
    is_autotrains = any(_flag(word) in _MARKS for word in words if word.startswith("--"))
    made: list[str] = []
    changes: list[tuple[str, str]] = []
    if is_autotrains:
        while words and words[0] in _COMMAND:
            words = words[1:]
        if "--backend" not in words:
            made += ["--backend", "autotrain"]
            changes.append(("its line", "--backend autotrain"))
    rest = iter(words)
    for word in rest:
        flag = _flag(word) if word.startswith("--") else ""
        if is_autotrains or flag in _TRANSFORMERS:
            ours, change = _translated(word, flag, rest)
            made += ours
            changes += change
        else:
            made.append(word)
    return Translated(tuple(made), tuple(changes), is_autotrains)


def _translated(word: str, flag: str, rest: Iterator[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Our words for one, with its value from the rest of the line, and what is told of it."""
    name, _, value = word.partition("=")
    if flag in _SWITCHES:
        ours = list(_SWITCHES[flag])
        return ours, [(word, " ".join(ours) or ("left out" if flag in _LEFT_OUT else "always so"))]
    if flag not in _VALUES and flag not in _LEFT_OUT:
        return [word], []
    value = value or next(rest, "")
    if flag in _LEFT_OUT:
        return [], [(name, "left out")]
    value = _QUANTIZATIONS.get(value, value) if flag == "quantization" else value
    known = _VALUES[flag]
    return [known, value] if known else [value], [(name, known or "DATA")] if name != known else []


def _flag(word: str) -> str:
    """``--project_name=x`` and ``--project-name`` as ``project-name``."""
    return word.lstrip("-").partition("=")[0].replace("_", "-")
