"""The back end ``autotrain``: AutoTrain 0.8.36, as the source tutorial uses it, in an environment of its own.

A small worker of this environment starts AutoTrain's command, translates what it prints into the same events, and
judges by the files that it leaves: its exit code is 0 after most failures. It trains without AutoTrain's own
merge, which deletes the adapter and only warns where it fails.
"""

from __future__ import annotations

import ast
import csv
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingPackageError
from . import environment as environments
from . import trl
from .spec import Base, TrainingSpec
from .steps import block_size, passes

_WORKER = "llm_magics.finetuning.workers.autotrain_worker"
_LOSS = re.compile(r"on_log:\d+ - (\{.*\})\s*$")
_NO_NUMBER = re.compile(r"-?\b(?:nan|inf)\b")
_STEP = re.compile(r"(\d+)/(\d+) \[")
_QUANTIZATION = {"none": "none", "nf4": "int4", "int8": "int8"}
ENVIRONMENT = "LLM_MAGICS_AUTOTRAIN_ENVIRONMENT"


def check(spec: TrainingSpec) -> None:
    """Raise where AutoTrain cannot do what is asked.

    Raises:
        InputError: quantization without a GPU, several machines, or preference pairs without an answer.
        MissingPackageError: what merging and the environment need is not installed.
    """
    request = spec.request
    if request.quantization != "none" and spec.device == "cpu":
        raise InputError(
            f"AutoTrain cannot train in {request.quantization} without a GPU",
            "Type --quantization none, or --backend trl",
        )
    if request.trainer != "sft":
        raise InputError(f"--backend autotrain trains with sft, not {request.trainer}", "Take --backend trl")
    if request.nodes > 1 or request.processes > 1:
        raise InputError("--backend autotrain runs one process", "Take --backend trl for --processes and --nodes")
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("peft", "finetune") from error


def command(spec: TrainingSpec, folder: Path) -> list[str]:
    """The command that trains a job: the worker, which starts AutoTrain.

    Args:
        spec: the job.
        folder: its folder.
    """
    return [sys.executable, "-m", _WORKER, str(folder)]


def environment(spec: TrainingSpec, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of the worker, with the folder of AutoTrain's own, which is made where it is not there.

    Args:
        spec: the job.
        inherited: this process's.
    """
    return {**trl.environment(spec, inherited), ENVIRONMENT: str(environments.autotrain_environment(print))}


def arguments(spec: TrainingSpec, tokens: int, longest: int, base: Path) -> list[str]:
    """AutoTrain's command line of today, after ``autotrain``.

    Args:
        spec: the job.
        tokens: tokens of all rows.
        longest: tokens of the longest row.
        base: the base in the form that its transformers reads.
    """
    request = spec.request
    options: dict[str, object] = {
        "project-name": request.name,
        "model": base,
        "data-path": ".",
        "text-column": "text",
        "trainer": "sft",
        "quantization": _QUANTIZATION[request.quantization],
        "lr": f"{request.learning_rate:g}",
        "epochs": f"{passes(request):g}",
        "batch-size": request.batch_size,
        "gradient-accumulation": request.gradient_accumulation,
        "block-size": block_size(tokens, longest, request.max_length or longest),
        "lora-r": request.lora_r,
        "lora-alpha": f"{request.lora_alpha or 2 * request.lora_r:g}",
        "lora-dropout": f"{request.lora_dropout:g}",
        "target-modules": ",".join(request.target_modules),
        "seed": request.seed,
        "logging-steps": 1,
    }
    words = ["llm", "--train", "--peft"]
    words += [] if spec.device == "cuda" and spec.base.parameters > 1e9 else ["--disable-gradient-checkpointing"]
    return words + [text for name, value in options.items() for text in (f"--{name}", str(value))]


def write_csv(path: Path, texts: Iterable[str]) -> None:
    """``train.csv`` with a column ``text``, as the tutorial has it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text"])
        writer.writerows([text] for text in texts)


def convert_base(base: Base, folder: Path) -> Path:
    """A copy of a model folder that transformers 4 reads as it is meant: the weights are linked, not copied.

    It would read one of transformers 5 without an error and with another rotary base.

    Args:
        base: from ``spec.read_base``.
        folder: where to make it; replaced where it is there.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for source in Path(base.folder).iterdir():
        if source.suffix == ".json" or source.suffix == ".jinja":
            shutil.copyfile(source, folder / source.name)
        elif source.suffix in (".safetensors", ".model"):
            try:
                os.link(source.resolve(), folder / source.name)
            except OSError:  # another disk
                (folder / source.name).symlink_to(source.resolve())
    _convert(folder / "config.json", _converted_config)
    _convert(folder / "tokenizer_config.json", lambda record: _converted_tokenizer(record, folder))
    return folder


def _convert(path: Path, change: Any) -> None:
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(change(record), indent=1, ensure_ascii=False), encoding="utf-8")


def _converted_config(config: dict[str, Any]) -> dict[str, Any]:
    config.pop("auto_map", None)  # the model's own Python code is not copied
    rope = dict(config.pop("rope_parameters", None) or {})
    if "rope_theta" in rope:
        config["rope_theta"] = rope.pop("rope_theta")
    if rope.get("rope_type", "default") != "default":
        config["rope_scaling"] = rope
    if "dtype" in config:
        config["torch_dtype"] = config.pop("dtype")
    return config


def _converted_tokenizer(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    template = folder / "chat_template.jinja"
    if template.is_file():
        config["chat_template"] = template.read_text(encoding="utf-8")
    extra = config.pop("extra_special_tokens", None)  # a list in transformers 5, a dict in 4
    if isinstance(extra, dict):
        config["extra_special_tokens"] = extra
    elif extra:
        config["additional_special_tokens"] = extra
    return config


def _figure(value: float | None) -> float:
    return math.nan if value is None else float(value)


class Output:
    """What AutoTrain prints, line by line, as the fields of events.

    Args:
        gradient_accumulation: its printed loss is the sum over so many batches.
        tokens: of a step: its blocks are full.
    """

    def __init__(self, gradient_accumulation: int, tokens: int) -> None:
        self._accumulation = gradient_accumulation
        self._tokens = tokens
        self.total = 0
        self.error = ""
        self._step = 0

    def read(self, line: str) -> dict[str, Any] | None:
        """The fields of a ``step`` event; None where the line is no loss.

        Args:
            line: ends at a line end or a carriage return.
        """
        if "ERROR" in line:
            said = line.rpartition(" - ")[2].strip()
            self.error = said or self.error
        bar = _STEP.search(line)
        if bar and int(bar[1]) == self._step + 1:  # other bars, over rows and shards, came to their end before
            self.total = int(bar[2])
        found = _LOSS.search(line)
        # A figure that is none is printed as a bare word, which is no Python literal.
        figures = ast.literal_eval(_NO_NUMBER.sub("None", found[1])) if found else {}
        if "loss" not in figures:
            return None
        self._step += 1  # one line a step: --logging-steps is 1
        return {
            "step": self._step,
            "total": max(self.total, self._step),
            "epoch": _figure(figures.get("epoch", 0.0)),
            "loss": _figure(figures["loss"]) / self._accumulation,
            "tokens": self._step * self._tokens,
            "learning_rate": _figure(figures.get("learning_rate", 0.0)),
        }
