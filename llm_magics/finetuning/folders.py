"""What lies where in a job's folder.

spec.json        everything that decides how the job comes out: choices, data hash, versions, base
process.json     the process that trains or trained it
train.jsonl      its rows; valid.jsonl those held out; general.jsonl texts on which it is held to the base
events.jsonl     what it did
trainer.log      what the libraries printed
checkpoints/     the last two, to go on from
adapter/         what it came to; merged/ the same as a model of its own
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SPEC = "spec.json"
PROCESS = "process.json"
TRAIN, VALID, GENERAL = "train.jsonl", "valid.jsonl", "general.jsonl"
LOG = "trainer.log"
RANKS = "ranks"  # torchrun's folder for the logs of several processes
CHECKPOINTS = "checkpoints"
ADAPTER, MERGED = "adapter", "merged"
STOP = "stop"  # its being there asks the job to end
WATCHED = "watched"  # its time is when a notebook last looked
_WHOLE = "whole"  # in a checkpoint: written after everything else


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Two notebooks that want the same at once: the second waits.

    Args:
        lock: a file for this alone.
    """
    import fcntl  # Windows has none, where models are opened all the same

    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # given back by the system where this process is killed
        yield


def write_json(path: Path, record: Any) -> None:
    """Write a file in one step: a reader sees the old one or the new one.

    Args:
        path: the file.
        record: what ``json`` takes.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    unfinished.write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")
    os.replace(unfinished, path)


def mark_whole(checkpoint: Path) -> None:
    """Say that nothing is missing in a checkpoint. The trainer itself leaves one that was cut off as it is."""
    (checkpoint / _WHOLE).touch()


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a job, the last one at the end."""
    found = [path for path in (folder / CHECKPOINTS).glob("checkpoint-*") if (path / _WHOLE).is_file()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint to go on from; None where there is none."""
    return next(reversed(checkpoints(folder)), None)


def remove_unfinished(folder: Path) -> None:
    """Remove the checkpoints that a killed process has not finished, and what else it left half written."""
    for path in (folder / CHECKPOINTS).glob("checkpoint-*"):
        if not (path / _WHOLE).is_file():
            shutil.rmtree(path, ignore_errors=True)
    for name in (ADAPTER, MERGED):
        shutil.rmtree(folder / f".{name}", ignore_errors=True)
