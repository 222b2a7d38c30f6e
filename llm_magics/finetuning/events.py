"""What a job does, as one JSON object a line in a file of its folder.

The job's process writes and never waits for a reader; notebooks read as often as they like, and a
restarted one reads from the beginning. A process that is killed in the middle of a line leaves a piece
that is no JSON: it is passed over.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..values.training import TrainingEvent

FILE = "events.jsonl"
_FIELDS = {field.name for field in dataclasses.fields(TrainingEvent)}


class EventLog:
    """Writes events.

    Args:
        folder: the job's.
        silent: writes nothing; for all processes of a job but the first.
    """

    def __init__(self, folder: Path, *, silent: bool = False) -> None:
        self._path = folder / FILE
        self._silent = silent

    def write(self, kind: str, **fields: Any) -> None:
        """Write one event with the time of now.

        Args:
            kind: see ``TrainingEvent``.
            fields: its other attributes.
        """
        if self._silent:
            return
        line = json.dumps({"kind": kind, "time": round(time.time(), 3), **fields}, ensure_ascii=False)
        # Opened for each line: a line end first closes what a killed process may have left unfinished.
        with self._path.open("a", encoding="utf-8") as file:
            file.write(("\n" if file.tell() and not self._ends_a_line() else "") + line + "\n")

    def _ends_a_line(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, 2)
            return file.read(1) == b"\n"


class EventReader:
    """Reads the events that have been added since the last look.

    Args:
        folder: the job's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._place = 0

    def new(self) -> list[TrainingEvent]:
        """The events in whole lines that were not given before."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._place)
                whole = file.read().rpartition(b"\n")[0]
        except FileNotFoundError:
            return []
        self._place += len(whole) + 1 if whole else 0
        return [event for line in whole.split(b"\n") if (event := _event(line)) is not None]


def _event(line: bytes) -> TrainingEvent | None:
    try:
        record = json.loads(line)
        return TrainingEvent(**{name: value for name, value in record.items() if name in _FIELDS})
    except (ValueError, TypeError, AttributeError):
        return None


def read_events(folder: Path) -> tuple[TrainingEvent, ...]:
    """All events of a job; see ``without_repeats``."""
    return without_repeats(EventReader(folder).new())


def without_repeats(events: Iterable[TrainingEvent]) -> tuple[TrainingEvent, ...]:
    """Leave out steps that were lost with a process and done again by the next one.

    Args:
        events: as they were written.
    """
    kept: list[TrainingEvent] = []
    for event in events:
        if event.kind == "begin":
            kept = [one for one in kept if one.step <= event.step]
        kept.append(event)
    return tuple(kept)
