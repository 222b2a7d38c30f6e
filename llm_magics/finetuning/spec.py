"""Everything that decides how a job comes out, as one value that is kept in the job's folder.

A ``TrainingRequest`` may leave things open; ``decide`` fills them in from the model and the data, and says
what will hardly work.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.resources
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ..errors import InputError, TrainingError, did_you_mean
from ..values.messages import Message
from ..values.training import GENERAL, NO_GENERAL, TrainingData, TrainingRequest
from . import tokens
from .data import Row, Understood, hold_out
from .folders import SPEC
from .steps import LEAST_BLOCK, count_steps, count_texts, passes

FEW_STEPS = 20
GENERAL_A_BATCH = 2
GENERAL_WEIGHT = 1.0  # of a nat a token away from the base, beside a nat a token of the answers
QUESTIONS_WEIGHT = 0.5  # of a nat a token of the questions
_EPOCHS, _EPOCHS_OF_FEW = 3.0, 4.0  # 120 rows: 18 of 40 facts right after three, 24 after four, whose loss is 0.01
_FEW_ROWS = 500
_MOST_STEPS_BY_DEFAULT = 2000
_CONTEXT = 1024  # tokens: the longest row by default, where the model reads that many
_WIDTH, _RATE = 4096, 2e-4  # QLoRA's learning rate for models of 7 B (arXiv:2305.14314, table 9), which are that wide
_HIGHEST_RATE = 2e-3
_FLOPS_PER_CORE = 6e10  # SmolLM2: 190 tokens a second of a core's time in bfloat16, 100 in float32; others take some
_WEIGHTS_A_SECOND = {"cpu": 1.2e9, "cuda": 2.5e11}  # read for a token; in float32, the GPU as it is driven here
_AFTERWARDS, _TRIED_TOKENS = 10, 80  # seconds to open the base here; tokens that it and the tuned model answer in turn
_GENERAL_TOKENS = 35  # of an everyday text, with the base's look at it
_PACKAGES = ("llm_magics", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes")


@dataclass(frozen=True, slots=True)
class Base:
    """The model that is trained on.

    Attributes:
        folder: where its safetensors, configuration and tokenizer lie.
        width: numbers in its hidden state.
        context: tokens that it reads at most.
        parameters: number of weights.
        vocabulary: number of tokens that it knows; 0 in a job of an earlier version.
        hub_id: its id on the Hugging Face Hub; empty where it has none.
        chat_template: a Jinja template in place of its tokenizer's own; empty keeps that.
        layers: names of its matrices, each once, such as ``q_proj``; empty in a job of an earlier version.
    """

    folder: str
    width: int
    context: int
    parameters: int
    vocabulary: int = 0
    hub_id: str = ""
    chat_template: str = ""
    layers: tuple[str, ...] = ()

    def tokenizer(self, *, trust_remote_code: bool) -> Any:
        """Its tokenizer, with the chat template that rows are read with.

        Args:
            trust_remote_code: whether Python code that comes with the model may run.
        """
        return tokens.load_tokenizer(self.folder, chat_template=self.chat_template, trust_remote_code=trust_remote_code)


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """A job, decided: the same spec gives the same adapter on the same machine.

    Attributes:
        request: with every choice made; nothing in it is None.
        base: the model.
        device: ``cpu`` or ``cuda``.
        rows: rows that are trained on.
        valid_rows: rows held out.
        longest: tokens of the longest row.
        steps: optimizer steps.
        data_sha256: of the rows, those held out and those mixed in.
        versions: of the packages that have a part in it.
    """

    request: TrainingRequest
    base: Base
    device: str
    rows: int
    valid_rows: int
    longest: int
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
        base = {**record["base"], "layers": tuple(record["base"].get("layers", ()))}
        return cls(**{**record, "request": TrainingRequest(**request), "base": Base(**base)})

    def changes(self, other: TrainingSpec) -> tuple[str, ...]:
        """What another spec would do differently, in words; ``background`` changes nothing.

        Args:
            other: a later request for the same job.
        """
        changed = _changed(self.request, dataclasses.asdict(other.request))
        same_file = self.request.chat_template == other.request.chat_template
        if same_file and self.base.chat_template != other.base.chat_template:
            changed.append(f"the chat template {self.request.chat_template} has changed")
        if self.data_sha256 != other.data_sha256:
            changed.append(f"the data has changed ({self.rows} rows then, {other.rows} now)")
        return tuple(changed)

    def contradicted(self, typed: Mapping[str, object]) -> tuple[str, ...]:
        """What was typed beside ``--resume`` and is not so in this job, in words.

        Args:
            typed: fields of the request that were typed; what was left out is as it was.
        """
        return tuple(_changed(self.request, typed))


def _changed(before: TrainingRequest, after: Mapping[str, object]) -> list[str]:
    found = []
    for name, now in after.items():
        was = getattr(before, name)
        if was != now and name not in ("background", "name"):
            found.append(f"{name.replace('_', ' ')} was {_plain(was)} and is {_plain(now)}")
    return found


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(value) if isinstance(value, tuple) else str(value) or "none"


@dataclass(frozen=True, slots=True)
class Decided:
    """What a job will be.

    Attributes:
        spec: everything that decides how it comes out.
        train: rows that are trained on.
        valid: rows held out.
        general: texts on which the tuned model is held to what the base says.
        report: what a person is told before it starts.
    """

    spec: TrainingSpec
    train: tuple[Row, ...]
    valid: tuple[Row, ...]
    general: tuple[Row, ...]
    report: TrainingData


def general_texts() -> tuple[Row, ...]:
    """Everyday questions with short answers, on which a tuned model is held to what its base says.

    The answers are not learned: they are texts on whose every token the two are compared.
    """
    lines = importlib.resources.files(__package__).joinpath("general.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = (json.loads(line) for line in lines)
    return tuple(Row((Message("user", one["question"]), Message("assistant", one["answer"]))) for one in pairs)


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
    shapes: dict[str, Sequence[int]] = {}
    for file in Path(folder).glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            shapes |= {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118
    matrices = {name.split(".")[-2] for name, shape in shapes.items() if len(shape) == 2 and "." in name}
    return Base(
        str(Path(folder).resolve()),
        int(config.hidden_size),
        int(getattr(config, "max_position_embeddings", 0) or 1 << 20),
        sum(math.prod(shape) for shape in shapes.values()),
        int(config.vocab_size),
        layers=tuple(sorted(matrices)),
    )


def decide(
    request: TrainingRequest, base: Base, data: Understood, *, mixed: Sequence[Row] = (), device: str = "cpu"
) -> Decided:
    """Fill in what a request leaves open, cut the rows that are too long, and count steps and tokens.

    Args:
        request: what a person typed.
        base: from ``read_base``.
        data: from ``data.understand``.
        mixed: rows that are trained along, of the file that ``--mix`` names.
        device: ``cpu`` or ``cuda``.

    Raises:
        InputError: a row length above the model's, nothing left to train on, or less than a block of it.
        ModelError: the base has no chat template.
    """
    most = request.max_length or min(_CONTEXT, base.context)
    if most > base.context:
        raise InputError(f"--max-length {most} is more than the model's {base.context}", f"Take at most {base.context}")
    _check_layers(request, base)
    tokenizer = base.tokenizer(trust_remote_code=request.trust_remote_code)
    fitting, long = _fitting(tokenizer, data.rows, most)
    if not fitting:
        raise InputError(
            f"all {len(data.rows)} rows are longer than {most} tokens", "Shorten them, or give a larger --max-length"
        )
    train, valid = hold_out(fitting, request.valid_split, request.seed)
    along, long_along = _fitting(tokenizer, mixed, most)
    train = (*train, *along)
    lengths = [tokens.length(tokenizer, row) for row in train]
    request = _filled(request, base, lengths, most)
    held = tokenizer.chat_template and request.mix == GENERAL
    general = _fitting(tokenizer, general_texts(), most)[0] if held else ()
    if not count_texts(request, lengths):
        raise InputError(
            f"{len(train)} rows of {sum(lengths)} tokens are shorter than AutoTrain's least block of {LEAST_BLOCK}",
            "Give more rows, or take --backend trl",
        )
    steps = count_steps(request, lengths)
    digest = _sha256((*train, *valid, *general))
    left_out = ((f"longer than {most} tokens", long), (f"of --mix longer than {most} tokens", long_along))
    spec = TrainingSpec(
        request, base, device, len(train), len(valid), max(lengths), steps, digest, installed_versions()
    )
    dropped = (*data.dropped, *((reason, count) for reason, count in left_out if count))
    report = _report(spec, data, tokenizer, train, lengths)
    report = dataclasses.replace(report, dropped=dropped, mixed_rows=len(along), general_rows=len(general))
    return Decided(spec, train, valid, general, report)


def _check_layers(request: TrainingRequest, base: Base) -> None:
    """Refuse layers that the base has not, before its weights are loaded to find that out."""
    for name in request.target_modules:
        if base.layers and name != "all-linear" and name.split(".")[-1] not in base.layers:
            raise InputError(
                f"--target-modules names {name}, and the base has {', '.join(base.layers)}",
                did_you_mean(name, base.layers) or "Take some of those, or all-linear",
            )


def _fitting(tokenizer: Any, rows: Iterable[Row], most: int) -> tuple[tuple[Row, ...], int]:
    kept, long = [], 0
    for row in rows:
        if tokens.length(tokenizer, row) <= most:
            kept.append(row)
        else:
            long += 1
    return tuple(kept), long


def _filled(request: TrainingRequest, base: Base, lengths: Sequence[int], most: int) -> TrainingRequest:
    batch = request.batch_size or max(1, min(4, len(lengths)))
    alpha = request.lora_alpha or 2 * request.lora_r
    rate = request.learning_rate or learning_rate(base.width, request.trainer)
    mix = request.mix or (GENERAL if request.can_hold else NO_GENERAL)
    filled = dataclasses.replace(
        request, batch_size=batch, lora_alpha=alpha, learning_rate=rate, max_length=most, mix=mix
    )
    epochs = request.epochs or (_EPOCHS_OF_FEW if len(lengths) < _FEW_ROWS else _EPOCHS)
    if (
        request.epochs is None
        and count_steps(dataclasses.replace(filled, epochs=epochs), lengths) > _MOST_STEPS_BY_DEFAULT
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


def _report(
    spec: TrainingSpec, data: Understood, tokenizer: Any, train: Sequence[Row], lengths: Sequence[int]
) -> TrainingData:
    request = spec.request
    trained = sum(tokens.encode(tokenizer, row).trained for row in train if not row.chosen)
    first = tokens.pieces(tokenizer, train[0])
    if request.backend == "autotrain":  # it knows of no answers: the loss is taken on whole texts
        first = [(text, True) for text, _ in first]
    return TrainingData(
        source=data.source,
        shape=data.shape,
        rows=len(train),
        valid_rows=spec.valid_rows,
        mixed_rows=0,
        tokens=sum(lengths),
        trained_tokens=trained,
        longest=spec.longest,
        dropped=data.dropped,
        first=tuple(first),
        recipe=_recipe(spec),
        steps=spec.steps,
        seconds=_seconds(spec, sum(lengths)),
        warnings=_warnings(spec),
    )


def _recipe(spec: TrainingSpec) -> tuple[str, ...]:
    request = spec.request
    epochs = f"{passes(request):g} epoch{'' if passes(request) == 1 else 's'}"
    batches = f"batches of {request.batch_size}"
    if request.gradient_accumulation > 1:
        batches += f", {request.gradient_accumulation} a step"
    more = [f"{request.processes * request.nodes} processes"] if request.processes * request.nodes > 1 else []
    more += [request.quantization] if request.quantization != "none" else []
    rate = f"learning rate {request.learning_rate:g}"
    named = f"{request.name} on {request.base}"
    return (named, f"{request.trainer} by {request.backend}", epochs, rate, batches, f"LoRA r {request.lora_r}", *more)


def _seconds(spec: TrainingSpec, tokens_an_epoch: int) -> float:
    """Four operations a weight and token: forward, and back to the adapters; the base's own gradients are left out.
    Before that the libraries are loaded, and afterwards the cell opens the base and asks it and the tuned model.
    """
    speed = 1e14 if spec.device == "cuda" else _FLOPS_PER_CORE * min(os.cpu_count() or 1, 16)
    request = spec.request
    pairs = 1 if request.trainer == "sft" else 3  # chosen and rejected, and the reference model's view of them
    texts = spec.steps * request.gradient_accumulation * GENERAL_A_BATCH if request.mix == GENERAL else 0
    tokens = tokens_an_epoch * passes(request) * pairs + texts * _GENERAL_TOKENS
    tried = _AFTERWARDS + _TRIED_TOKENS * spec.base.parameters / _WEIGHTS_A_SECOND[spec.device]
    return 15 + 4 * spec.base.parameters * tokens / speed + (0 if request.background else tried)


def _warnings(spec: TrainingSpec) -> tuple[str, ...]:
    request, found = spec.request, []
    if spec.steps < FEW_STEPS:
        needed = math.ceil(passes(request) * FEW_STEPS / spec.steps)
        batch = (request.batch_size or 1) * spec.steps // FEW_STEPS
        smaller = f", or --batch-size {batch}" if batch and not request.packing else ""
        smaller = ", or leave out --packing" if request.packing and request.backend == "trl" else smaller
        few = "1 optimizer step hardly changes" if spec.steps == 1 else f"{spec.steps} optimizer steps hardly change"
        found.append(f"{few} a model: take --epochs {needed}{smaller}")
    if passes(request) != (request.epochs or 1):
        found.append(f"AutoTrain takes whole epochs: {request.epochs:g} become {passes(request):g}")
    if request.quantization == "none" and spec.device == "cuda" and spec.base.parameters > 5e9:
        found.append("a base of this size trains in a quarter of the memory with -q nf4")
    if request.quantization != "none" and spec.device == "cpu":
        found.append("on a CPU quantization saves little memory and no time: --quantization none learns better")
    return tuple(found)


def _sha256(rows: Iterable[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(row.as_json().encode() + b"\n")
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
        return TrainingSpec.from_dict(json.loads((folder / SPEC).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{folder} holds no fine-tuning job that can be read", "%llm_finetune --list shows those that there are"
        ) from error
