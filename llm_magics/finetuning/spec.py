"""Everything that decides how a job comes out, as one value that is kept in the job's folder.

A ``TrainingRequest`` may leave things open; ``decide`` fills them in from the model and the data, and says
what will hardly work.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ..errors import InputError, TrainingError
from ..messages import TrainingRequest
from ..results import TrainingData
from . import tokens
from .data import Row, Understood, hold_out

FEW_STEPS = 20
_EPOCHS = 3.0
_MOST_STEPS_BY_DEFAULT = 2000
_CONTEXT = 1024  # tokens: the longest row by default, where the model reads that many
_WIDTH, _RATE = 4096, 2e-4  # QLoRA's learning rate for models of 7 B (arXiv:2305.14314, table 9), which are that wide
_HIGHEST_RATE = 2e-3
_FLOPS_PER_CORE = 2.5e10  # measured with SmolLM2 in float32 on two busy cores: about 77 tokens a second of CPU time
_PACKAGES = ("llm_magics", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes")


@dataclass(frozen=True, slots=True)
class Base:
    """The model that is trained on.

    Attributes:
        folder: where its safetensors, configuration and tokenizer lie.
        width: numbers in its hidden state.
        context: tokens that it reads at most.
        parameters: number of weights.
    """

    folder: str
    width: int
    context: int
    parameters: int


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """A job, decided: the same spec gives the same adapter on the same machine.

    Attributes:
        request: with every choice made; nothing in it is None.
        base: the model.
        device: ``cpu`` or ``cuda``.
        rows: rows that are trained on.
        valid_rows: rows held out.
        steps: optimizer steps.
        data_sha256: of the rows, those held out and those mixed in.
        versions: of the packages that have a part in it.
    """

    request: TrainingRequest
    base: Base
    device: str
    rows: int
    valid_rows: int
    steps: int
    data_sha256: str
    versions: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> TrainingSpec:
        """What ``as_dict`` gave, read back from JSON."""
        request = {**record["request"], "target_modules": tuple(record["request"]["target_modules"])}
        return cls(**{**record, "request": TrainingRequest(**request), "base": Base(**record["base"])})

    def changes(self, other: TrainingSpec) -> tuple[str, ...]:
        """What another spec would do differently, in words; ``background`` changes nothing.

        Args:
            other: a later request for the same job.
        """
        changed = []
        for field in dataclasses.fields(TrainingRequest):
            before, after = getattr(self.request, field.name), getattr(other.request, field.name)
            if before != after and field.name != "background":
                changed.append(f"{field.name.replace('_', ' ')} was {_plain(before)} and is {_plain(after)}")
        if self.data_sha256 != other.data_sha256:
            changed.append(f"the data has changed ({self.rows} rows then, {other.rows} now)")
        return tuple(changed)


def _plain(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class Decided:
    """What a job will be: its spec, its rows, and what a person is told before it starts."""

    spec: TrainingSpec
    train: tuple[Row, ...]
    valid: tuple[Row, ...]
    report: TrainingData


def read_base(folder: str, *, trust_remote_code: bool = False) -> Base:
    """The figures of a model folder.

    Args:
        folder: with ``config.json`` and safetensors.
        trust_remote_code: whether Python code that comes with the model may run.
    """
    from safetensors import safe_open
    from transformers import AutoConfig

    loaded = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    config = loaded.get_text_config()
    parameters = 0
    for file in Path(folder).glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            shapes = [opened.get_slice(name).get_shape() for name in opened.keys()]  # noqa: SIM118
        parameters += sum(math.prod(shape) for shape in shapes)
    return Base(
        str(Path(folder).resolve()),
        int(config.hidden_size),
        int(getattr(config, "max_position_embeddings", 0) or 1 << 20),
        parameters,
    )


def decide(
    request: TrainingRequest, base: Base, data: Understood, *, mixed: Sequence[Row] = (), device: str = "cpu"
) -> Decided:
    """Fill in what a request leaves open, cut the rows that are too long, and count steps and tokens.

    Args:
        request: what a person typed.
        base: from ``read_base``.
        data: from ``data.understand``.
        mixed: general rows that are trained along, as ``--mix`` names them.
        device: ``cpu`` or ``cuda``.

    Raises:
        InputError: a row length above the model's, nothing left to train on, or a rate that cannot be.
        ModelError: the base has no chat template.
    """
    most = request.max_length or min(_CONTEXT, base.context)
    if most > base.context:
        raise InputError(f"--max-length {most} is more than the model's {base.context}", f"Take at most {base.context}")
    tokenizer = tokens.load_tokenizer(base.folder, trust_remote_code=request.trust_remote_code)
    fitting, long = _fitting(tokenizer, data.rows, most)
    if not fitting:
        raise InputError(
            f"all {len(data.rows)} rows are longer than {most} tokens", "Shorten them, or give a larger --max-length"
        )
    train, valid = hold_out(fitting, request.valid_split, request.seed)
    general, _ = _fitting(tokenizer, mixed, most)
    train = (*train, *general)
    request = _filled(request, base, len(train), most)
    steps = count_steps(request, len(train))
    spec = TrainingSpec(
        request, base, device, len(train), len(valid), steps, _sha256((*train, *valid)), installed_versions()
    )
    report = _report(spec, data, tokenizer, train, long)
    return Decided(spec, train, valid, dataclasses.replace(report, mixed_rows=len(general)))


def _fitting(tokenizer: Any, rows: Iterable[Row], most: int) -> tuple[tuple[Row, ...], int]:
    kept, long = [], 0
    for row in rows:
        if tokens.length(tokenizer, row) <= most:
            kept.append(row)
        else:
            long += 1
    return tuple(kept), long


def _filled(request: TrainingRequest, base: Base, rows: int, most: int) -> TrainingRequest:
    batch = request.batch_size or max(1, min(4, rows))
    alpha = request.lora_alpha or 2 * request.lora_r
    rate = request.learning_rate or learning_rate(base.width, request.trainer)
    filled = dataclasses.replace(request, batch_size=batch, lora_alpha=alpha, learning_rate=rate, max_length=most)
    epochs = request.epochs or _EPOCHS
    if (
        request.epochs is None
        and count_steps(dataclasses.replace(filled, epochs=epochs), rows) > _MOST_STEPS_BY_DEFAULT
    ):
        epochs = 1.0
    return dataclasses.replace(filled, epochs=epochs)


def learning_rate(width: int, trainer: str = "sft") -> float:
    """The default learning rate: QLoRA's for 7 B, and higher for narrower models in proportion to their width.

    With Adam the best rate of a layer falls with its width (Yang et al. 2022, arXiv:2203.03466).

    Args:
        width: numbers in the hidden state.
        trainer: preference pairs take a tenth, as their loss moves whole answers.
    """
    rate = min(_HIGHEST_RATE, _RATE * _WIDTH / width)
    return float(f"{rate if trainer == 'sft' else rate / 10:.2g}")


def count_steps(request: TrainingRequest, rows: int) -> int:
    """Optimizer steps of a job, as transformers' Trainer counts them.

    Args:
        request: with its choices made.
        rows: rows that are trained on.
    """
    world = request.processes * request.nodes
    batches = math.ceil(rows / ((request.batch_size or 1) * world))
    return max(1, math.ceil((request.epochs or 1) * max(1, math.ceil(batches / request.gradient_accumulation))))


def _report(spec: TrainingSpec, data: Understood, tokenizer: Any, train: Sequence[Row], long: int) -> TrainingData:
    request = spec.request
    lengths = [tokens.length(tokenizer, row) for row in train]
    trained = sum(tokens.encode(tokenizer, row).trained for row in train if not row.chosen)
    dropped = [*data.dropped, *([(f"longer than {request.max_length} tokens", long)] if long else [])]
    first = tokens.pieces(tokenizer, train[0])
    return TrainingData(
        source=data.source,
        shape=data.shape,
        rows=len(train),
        valid_rows=spec.valid_rows,
        mixed_rows=0,
        tokens=sum(lengths),
        trained_tokens=trained,
        longest=max(lengths),
        dropped=tuple(dropped),
        first="".join(text for text, _ in first),
        first_answer=next((text for text, is_trained in reversed(first) if is_trained), ""),
        steps=spec.steps,
        seconds=_seconds(spec, sum(lengths)),
        warnings=_warnings(spec),
    )


def _seconds(spec: TrainingSpec, tokens_an_epoch: int) -> float:
    """Four operations a weight and token: forward, and back to the adapters; the base's own gradients are left out."""
    speed = 1e14 if spec.device == "cuda" else _FLOPS_PER_CORE * min(os.cpu_count() or 1, 16)
    pairs = 1 if spec.request.trainer == "sft" else 3  # chosen and rejected, and the reference model's view of them
    return 15 + 4 * spec.base.parameters * tokens_an_epoch * (spec.request.epochs or 1) * pairs / speed


def _warnings(spec: TrainingSpec) -> tuple[str, ...]:
    request, found = spec.request, []
    if spec.steps < FEW_STEPS:
        needed = math.ceil((request.epochs or 1) * FEW_STEPS / spec.steps)
        smaller = f", or --batch-size {max(1, (request.batch_size or 1) // 2)}" if (request.batch_size or 1) > 1 else ""
        found.append(f"{spec.steps} optimizer steps hardly change a model: take --epochs {needed}{smaller}")
    if request.quantization == "none" and spec.device == "cuda" and spec.base.parameters > 5e9:
        found.append("a base of this size trains in a quarter of the memory with -q nf4")
    if request.quantization != "none" and spec.device == "cpu":
        found.append("on a CPU quantization saves little memory and no time: --quantization none learns better")
    return tuple(found)


def _sha256(rows: Iterable[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(row.as_json().encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def installed_versions() -> dict[str, str]:
    """Versions of the packages that decide how a job comes out; those that are not installed are left out."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def read_spec(folder: Path) -> TrainingSpec:
    """The spec that lies in a job's folder.

    Raises:
        TrainingError: there is none, or it is damaged.
    """
    try:
        return TrainingSpec.from_dict(json.loads((folder / "spec.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{folder} holds no fine-tuning job that can be read", "%llm_finetune --list shows those that there are"
        ) from error
