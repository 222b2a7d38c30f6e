"""Fine-tuning for a session: from what a person typed to a job, and from a job to a model that answers.

The one place that knows both the engines, which find and open the base, and the jobs, which train on it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from .engines.adapters import Adapters, SharedEngine
from .engines.transformers import TransformersEngine
from .errors import MissingPackageError, TrainingError
from .finetuning.data import understand
from .finetuning.jobs import Job, Jobs
from .finetuning.rows import read
from .finetuning.spec import Decided, decide, read_base, read_spec
from .messages import ModelRequest, TrainingRequest
from .results import TrainingRun

FOLDER = "finetuned"  # in the working folder: a folder a job


@dataclasses.dataclass(frozen=True, slots=True)
class RowSource:
    """Where the rows come from.

    Attributes:
        source: a path, a Hub id, or a value.
        name: what the person calls a value.
        limit: at most so many rows; 0 for all.
        prompt_column: the column with the questions, where its name does not say so.
        completion_column: the column with the answers.
    """

    source: object
    name: str = ""
    limit: int = 0
    prompt_column: str = ""
    completion_column: str = ""


def plan(request: TrainingRequest, rows: RowSource, *, say: Callable[[str], None] = print) -> Decided:
    """Find the base, read the rows, and decide everything that was left open. Starts nothing.

    Args:
        request: what to train and how.
        rows: on what.
        say: told in one line what takes long.

    Raises:
        InputError: rows or options that cannot be used.
        ModelError: no such base, or one that cannot be trained on.
        MissingPackageError: what is needed is not installed.
    """
    from .engines import resolve, transformers

    table = read(rows.source, rows.name, limit=rows.limit)
    data = understand(
        table,
        trainer=request.trainer,
        prompt_column=rows.prompt_column,
        completion_column=rows.completion_column,
    )
    mixed = understand(read(request.mix)).rows if request.mix else ()
    source = resolve.resolve(request.base)
    model = ModelRequest(request.base, quantize="none", trust_remote_code=request.trust_remote_code)
    try:
        prepared = transformers.prepare(source, model, say=say)
    except MissingPackageError as error:
        raise MissingPackageError(error.message.split()[0], "finetune") from error
    base = read_base(prepared.folder, trust_remote_code=request.trust_remote_code)
    device = "cuda" if prepared.device.startswith("cuda") else "cpu"
    return decide(request, base, data, mixed=mixed, device=device)


def jobs(folder: Path | None = None) -> Jobs:
    """The jobs of a working folder.

    Args:
        folder: the working folder; this process's unless given.
    """
    return Jobs((folder or Path.cwd()) / FOLDER)


def last_look(job: Job) -> TrainingRun:
    """A job that has ended, as it stands.

    Raises:
        TrainingError: it failed or was killed; with its own line.
    """
    run = job.run()
    if run.state in ("failed", "killed"):
        hint = "Type %llm_finetune --resume" if run.state == "killed" else f"Look at {run.folder}/trainer.log"
        raise TrainingError(f"{run.name}: {run.text}", hint)
    return run


def base_folder(run: TrainingRun) -> str:
    """The folder of the base that a job was trained on, to open it where no loaded model is that base."""
    return read_spec(Path(run.folder)).base.folder


def attach(engine: TransformersEngine, run: TrainingRun) -> tuple[SharedEngine, SharedEngine]:
    """Put a job's adapter on its base without a second copy of the weights.

    Args:
        engine: the base as it is open; one that has adapters already gets another.
        run: a job with an adapter.

    Returns:
        The base and the tuned model. From now on they answer in turn, and the base through the first of the two.

    Raises:
        TrainingError: the job has no adapter.
        ModelFileError: the adapter is damaged or belongs to another base.
        BusyError: the base is answering.
    """
    if not run.adapter:
        raise TrainingError(f"{run.name} has no adapter yet", "Type %llm_finetune --status")
    adapters = engine.adapters if isinstance(engine, SharedEngine) else Adapters(engine)
    return adapters.base, adapters.add(run.name, run.adapter)
