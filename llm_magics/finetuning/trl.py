"""The back end ``trl``: a worker over TRL's trainers and PEFT in this notebook's own environment."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from ..errors import MissingPackageError
from . import folders
from .spec import TrainingSpec

_WORKER = "llm_magics.finetuning.workers.trl_worker"
_PORT = 29400  # torchrun's own default
_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACEHUB_API_TOKEN")


def check(spec: TrainingSpec) -> None:
    """Raise where what the worker imports is not installed.

    Args:
        spec: the job.

    Raises:
        MissingPackageError: with the extra that brings it.
    """
    for package in ("torch", "transformers", "trl", "peft", "datasets"):
        if find_spec(package) is None:
            raise MissingPackageError(package, "finetune")
    if spec.request.quantization != "none" and find_spec("bitsandbytes") is None:
        raise MissingPackageError("bitsandbytes", "quantization")


def command(spec: TrainingSpec, folder: Path) -> list[str]:
    """The command that trains a job, on this machine; on each of several it is the same.

    Args:
        spec: the job.
        folder: its folder; with several machines on a disk that they share.
    """
    processes, nodes = spec.request.processes, spec.request.nodes
    worker = ["-m", _WORKER, str(folder)]
    if processes * nodes == 1:
        return [sys.executable, *worker]
    where = ["--standalone"]
    if nodes > 1:
        endpoint = f"{socket.gethostname()}:{_PORT}"
        where = [f"--nnodes={nodes}", f"--rdzv-id={spec.request.name}", "--rdzv-backend=c10d"]
        where.append(f"--rdzv-endpoint={endpoint}")
    where += [f"--nproc-per-node={processes}", f"--log-dir={folder / folders.RANKS}"]  # its own lies in /tmp for ever
    return [sys.executable, "-m", "torch.distributed.run", *where, *worker]


def environment(spec: TrainingSpec, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of the worker: without tokens, without a network, and with threads that do not spin.

    Args:
        spec: the job.
        inherited: this process's.
    """
    cores = os.cpu_count() or 1
    package = str(Path(__file__).parents[2])
    made = {name: value for name, value in inherited.items() if name not in _SECRETS}
    made["PYTHONPATH"] = os.pathsep.join([package, *filter(None, [inherited.get("PYTHONPATH")])])
    made |= {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    if cores <= 4:
        made.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # docs/decisions.md, "Threads"
    if spec.request.processes > 1 and spec.device == "cpu":
        made.setdefault("OMP_NUM_THREADS", str(max(1, cores // spec.request.processes)))
    return made
