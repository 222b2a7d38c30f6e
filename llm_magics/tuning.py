"""Fine-tuning for a session: from what a person typed to a job, and from a job to a model that answers.

The one place that knows both the engines, which find and open the base, and the jobs, which train on it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .aliases import MODELS
from .engines.adapters import Adapters, SharedEngine
from .engines.base import Engine
from .engines.memory import free_bytes
from .engines.transformers import TransformersEngine
from .errors import InputError, MissingPackageError, TrainingError
from .finetuning.data import read_rows, understand
from .finetuning.folders import ADAPTER, SPEC, TRAIN, VALID
from .finetuning.jobs import Job, Jobs
from .finetuning.memory import must_put_away, too_large, training_memory
from .finetuning.rows import read
from .finetuning.spec import Base, Decided, decide, read_base, read_spec
from .prompts import templates
from .settings import JOBS_FOLDER
from .values.answers import Chunk
from .values.asking import GenerationOptions
from .values.messages import Message, Prompt
from .values.models import ModelInfo, ModelRequest
from .values.training import GENERAL, NO_GENERAL, RowSource, TrainingRequest, TrainingRun, TriedOut

# Questions that no set of rows is about, each with what a right answer holds: what they lose is what was forgotten.
_UNRELATED = (
    ("What is the capital of France?", "Paris"),
    ("What colour is the sky on a clear day?", "blue"),
    ("Which planet is known as the Red Planet?", "Mars"),
    ("What is the opposite of hot?", "cold"),
)
_TRIED_ROWS = 4
_ENDED = {"done": "is done", "stopped": "was stopped", "failed": "failed", "killed": "was killed"}
_TRIED = GenerationOptions(temperature=0.0, repetition_penalty=1.0, max_new_tokens=40)


def plan(
    request: TrainingRequest,
    rows: RowSource,
    *,
    adapt: bool = False,
    held: Sequence[ModelInfo] = (),
    say: Callable[[str], None] = print,
) -> Decided:
    """Find the base, read the rows, and decide everything that was left open. Starts nothing.

    Args:
        request: what to train and how.
        rows: on what.
        adapt: leave out quantization that this machine cannot do, and say so.
        held: the open models, which can be put away.
        say: told in one line what takes long, and what was left out.

    Raises:
        InputError: rows or options that cannot be used.
        ModelError: no such base, or one that cannot be trained on.
        MissingPackageError: what is needed is not installed.
    """
    table = read(rows.source, rows.name, limit=rows.limit)
    data = understand(
        table,
        trainer=request.trainer,
        prompt_column=rows.prompt_column,
        completion_column=rows.completion_column,
        text_column=rows.text_column,
    )
    mixed = (
        understand(read(request.mix), trainer=request.trainer).rows
        if request.mix not in ("", GENERAL, NO_GENERAL)
        else ()
    )
    base, device = _base(request, say)
    if adapt and device == "cpu" and request.quantization != "none":
        say(f"{request.quantization} needs a GPU here: the base is trained on as it is (--quantization none)")
        request = dataclasses.replace(request, quantization="none")
    decided = decide(request, base, data, mixed=mixed, device=device)
    room = free_bytes(device) + sum(info.memory for info in _beside(decided.spec.device, held))
    if warning := too_large(decided.spec, room):
        report = dataclasses.replace(decided.report, warnings=(*decided.report.warnings, warning))
        decided = dataclasses.replace(decided, report=report)
    return decided


def _beside(device: str, held: Sequence[ModelInfo]) -> list[ModelInfo]:
    """The models that are in the memory in which a job trains."""
    return [info for info in held if info.device.startswith("cuda") == (device == "cuda") and info.memory]


def _base(request: TrainingRequest, say: Callable[[str], None]) -> tuple[Base, str]:
    """The base that a request names, fetched where it has to be, and the device that it is trained on."""
    from .engines import resolve, transformers

    source = resolve.resolve(request.base, revision=request.revision)
    if source.kind == "server":
        raise InputError(
            f"{source.name} is on a server, and training needs its weights here", "Name its Hub id or its folder"
        )
    code = request.trust_remote_code
    model = ModelRequest(request.base, quantize="none", revision=request.revision, trust_remote_code=code)
    try:
        prepared = transformers.prepare(source, model, fits=False, say=say)
    except MissingPackageError as error:
        if error.extra != "transformers":
            raise
        raise MissingPackageError(error.package, "finetune") from error
    base = dataclasses.replace(
        read_base(prepared.folder, trust_remote_code=code),
        hub_id=MODELS[request.base].hub if request.base in MODELS else source.location if source.kind == "hub" else "",
        chat_template=templates.chat_template(request.chat_template) if request.chat_template else "",
    )
    return base, "cuda" if prepared.device.startswith("cuda") else "cpu"


def jobs(folder: Path | None = None) -> Jobs:
    """The jobs of a working folder.

    Args:
        folder: the working folder; this process's unless given.
    """
    return Jobs((folder or Path.cwd()) / JOBS_FOLDER)


def in_the_way(job: Job, held: Sequence[ModelInfo]) -> list[str]:
    """The open models that leave a job no room in memory, by their names.

    Args:
        job: the job.
        held: the models.
    """
    spec = job.spec
    there = _beside(spec.device, held)
    needed = must_put_away(sum(info.memory for info in there), training_memory(spec), free_bytes(spec.device))
    return [info.name for info in there] if needed else []


def tuned(name: str) -> TrainingRun | None:
    """The job of that name in the working folder, where it has an adapter; None where there is no such job.

    Args:
        name: what was typed where a model is asked for.

    Raises:
        TrainingError: it has no adapter yet, or failed before it had one.
    """
    found = jobs()
    known = name and Path(name).name == name and (found.root / name / SPEC).is_file()
    run = found.find(name).run() if known else None
    if run is not None and run.adapter:
        return run
    if run is None or Path(name).exists():
        return None
    earlier = found.opens_earlier(name)
    earlier = f"; {earlier} opens the earlier one" if earlier else ""
    if run.state == "running":
        at = f" (step {run.step} of {run.total})" if run.total else ""
        raise TrainingError(f"{name} is being trained{at}", f"%llm_finetune {name} --resume follows it{earlier}")
    said = f": {run.text}" if run.text else ""
    again = f"%llm_finetune {name} --resume goes on"
    if run.state == "failed":
        again = f"Look at {JOBS_FOLDER}/{name}/trainer.log, and type its line again when that is mended"
    raise TrainingError(f"{name} has no adapter, its job {_ENDED[run.state]}{said}", f"{again}{earlier}")


def as_trained(request: ModelRequest) -> ModelRequest:
    """A base as an adapter was trained on it: with the revision and the chat template of the job that made it, where
    no others are typed.

    Args:
        request: with an adapter: its folder, or that of the job.
    """
    folder = Path(request.adapter).expanduser()
    for place in (folder, folder.parent):
        with contextlib.suppress(TrainingError):  # most adapters are of no job
            trained = read_spec(place).request
            if trained.base == request.model:
                revision = request.revision or trained.revision
                template = request.chat_template or trained.chat_template
                return dataclasses.replace(request, revision=revision, chat_template=template)
    return request


def fits(opened: ModelRequest, wanted: ModelRequest) -> bool:
    """Whether a model that is open is the base of an adapter, as ``as_trained`` gives it.

    Args:
        opened: how a model of the same place was opened.
        wanted: the base.
    """
    return opened.revision == wanted.revision and wanted.chat_template in ("", opened.chat_template)


def takes_adapters(engine: Engine) -> bool:
    """Whether an engine has its weights in a form that an adapter can be put on."""
    return isinstance(engine, TransformersEngine)


def share(one: Engine, other: Engine) -> bool:
    """Whether two engines are views of the same weights."""
    return isinstance(one, SharedEngine) and isinstance(other, SharedEngine) and one.adapters is other.adapters


def own_bytes(engine: Engine) -> int:
    """What comes back when a model is closed while another holds the same weights: its adapter.

    Args:
        engine: one of them.
    """
    return engine.info().memory if isinstance(engine, SharedEngine) and engine.is_tuned else 0


def attach(engine: Engine, name: str, adapter: str) -> tuple[Engine, SharedEngine]:
    """Put an adapter on an open base without a second copy of the weights.

    Args:
        engine: the base as it is open, or a model that shares its weights.
        name: what the tuned model is called; an adapter of that name is replaced.
        adapter: folder of the adapter, or of the job that made it.

    Returns:
        What the engine is to be used through from now on, and the tuned model.

    Raises:
        ModelFileError: no adapter, a damaged one, or one for another base.
        BusyError: the base is answering.
    """
    assert isinstance(engine, TransformersEngine), "see takes_adapters"
    folder = Path(adapter).expanduser()
    inner = folder / ADAPTER
    adapters = engine.adapters if isinstance(engine, SharedEngine) else Adapters(engine)
    shared = adapters.add(name, str(inner if inner.is_dir() else folder))
    return engine if isinstance(engine, SharedEngine) else adapters.base, shared


def try_out(tuned: Engine, run: TrainingRun, stop: threading.Event) -> Iterator[TriedOut]:
    """Ask base and tuned model the same: rows that were held out, and a few unrelated questions.

    Args:
        tuned: the tuned model, from ``attach``.
        run: its job.
        stop: when set, what is not answered is left out.

    Yields:
        Each question with both answers, greedy.

    Raises:
        ModelError: the base has no chat template, or refuses a question.
        BusyError: it is answering.
        OSError: the rows are gone.
    """
    assert isinstance(tuned, SharedEngine), "from attach"
    asked = list(_questions(Path(run.folder)))
    base = tuned.adapters.base
    prompts = [base.render(messages) for _, messages, _ in asked]
    answers = [_said(engine, prompts, stop) for engine in (base, tuned)]
    for number, (kind, messages, expected) in enumerate(asked):
        if all(number in said for said in answers):
            (before, before_cut), (after, after_cut) = (said[number] for said in answers)
            yield TriedOut(kind, messages[-1].content, expected, before, after, before_cut, after_cut)


def _questions(folder: Path) -> Iterator[tuple[str, tuple[Message, ...], str]]:
    """Kind, messages and expected answer. Where nothing was held out, rows that were trained on stand in."""
    for kind, name in (("held out", VALID), ("trained on", TRAIN)):
        rows = [row for row in read_rows(folder / name) if row.messages]
        if rows:
            for row in random.Random(0).sample(rows, min(len(rows), _TRIED_ROWS)):
                messages, expected = (row.messages, row.chosen) if row.chosen else (row.messages[:-1], row.messages[-1])
                yield kind, messages, expected if isinstance(expected, str) else expected.content
            break
    for question, expected in _UNRELATED:
        yield "unrelated", (Message("user", question),), expected


def _said(engine: SharedEngine, prompts: Sequence[Prompt], stop: threading.Event) -> dict[int, tuple[str, bool]]:
    """The answers to those prompts that could be answered before a stop, by their numbers, and whether each was cut."""
    found = engine.stream_batch(prompts, _TRIED, stop)
    return {
        number: (chunk.text.strip(), chunk.stop_reason == "length")
        for number, chunk in found
        if isinstance(chunk, Chunk)
    }
