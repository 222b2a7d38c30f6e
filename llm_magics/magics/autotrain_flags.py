"""AutoTrain's command lines of 2023 and of today, as options of ``%llm_finetune``.

The source tutorial's own line so works as it stands there, and whoever knows AutoTrain finds its words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# AutoTrain's flag, without dashes and with hyphens -> ours; empty where ours does it without being asked.
_VALUES = {
    "project-name": "--name", "model": "--base", "data-path": "",
    "learning-rate": "--lr", "num-train-epochs": "--epochs", "train-batch-size": "--batch-size",
    "gradient-accumulation-steps": "--gradient-accumulation", "block-size": "--max-length",
    "model-max-length": "--max-length", "lora-r": "--lora-r", "lora-alpha": "--lora-alpha",
    "lora-dropout": "--lora-dropout", "target-modules": "--target-modules", "lr": "--lr", "epochs": "--epochs",
    "batch-size": "--batch-size", "gradient-accumulation": "--gradient-accumulation", "trainer": "--trainer",
    "seed": "--seed", "quantization": "--quantization", "text-column": "--text-column",
}  # fmt: skip
_SWITCHES = {
    "train": (), "use-peft": (), "peft": (), "use-int4": ("--quantization", "nf4"),
    "use-int8": ("--quantization", "int8"), "merge-adapter": ("--merge-adapter",), "text-generation": (),
    "disable-gradient-checkpointing": (),
}  # fmt: skip
_QUANTIZATIONS = {"int4": "nf4"}
# These are left out: what they ask for is done otherwise here, or always.
_LEFT_OUT = {"mixed-precision", "warmup-ratio", "padding", "logging-steps"}
_COMMAND = ("!autotrain", "autotrain", "llm")  # how its line begins in a shell
# These are AutoTrain's alone: with one of them on the line, it is one of AutoTrain's.
_MARKS = {
    "train", "project-name", "data-path", "use-peft", "peft", "use-int4", "use-int8", "learning-rate",
    "num-train-epochs", "train-batch-size", "gradient-accumulation-steps", "block-size",
    "disable-gradient-checkpointing",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Translated:
    """A line in our own options.

    Attributes:
        words: what ``%llm_finetune`` takes.
        changes: pairs of AutoTrain's flag and ours; empty for a line that was ours.
    """

    words: tuple[str, ...]
    changes: tuple[tuple[str, str], ...]


def translate(words: Sequence[str]) -> Translated:
    """AutoTrain's line in our own options; a line of ours comes back as it is.

    Args:
        words: the words of the line, such as ``["--train", "--project_name", "Llama-Chat"]``.
    """
    if not any(_flag(word) in _MARKS for word in words if word.startswith("--")):
        return Translated(tuple(words), ())
    made: list[str] = []
    changes: list[tuple[str, str]] = []
    while words and words[0] in _COMMAND:
        words = words[1:]
    rest = iter([*(["--backend", "autotrain"] if "--backend" not in words else []), *words])
    for word in rest:
        flag = _flag(word) if word.startswith("--") else ""
        if flag in _SWITCHES:
            ours = _SWITCHES[flag]
            made += ours
            changes.append((word, " ".join(ours) or "always so"))
        elif flag in _VALUES:
            value = word.partition("=")[2] or next(rest, "")
            value = _QUANTIZATIONS.get(value, value) if flag == "quantization" else value
            ours_flag = _VALUES[flag]
            made += [ours_flag, value] if ours_flag else [value]
            if word.partition("=")[0] != ours_flag:
                changes.append((word.partition("=")[0], ours_flag or "DATA"))
        elif flag in _LEFT_OUT:
            if "=" not in word:
                next(rest, "")
            changes.append((word.partition("=")[0], "left out"))
        else:
            made.append(word)
    return Translated(tuple(made), tuple(changes))


def _flag(word: str) -> str:
    """``--project_name=x`` and ``--project-name`` as ``project-name``."""
    return word.lstrip("-").partition("=")[0].replace("_", "-")
