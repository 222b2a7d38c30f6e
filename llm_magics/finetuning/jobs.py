"""Jobs: a folder each, a process group each; started, followed, stopped, resumed, found again.

A job belongs to no notebook. Whoever follows it touches a file; where nobody does for some minutes, a job
that was not started with ``--background`` saves what it has and ends.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from ..errors import TrainingError, did_you_mean
from ..results import TrainingEvent, TrainingRun, TrainingState
from . import autotrain, folders, processes, trl
from .events import EventLog, EventReader, read_events
from .spec import Decided, TrainingSpec, read_spec

PATIENCE = 60.0  # seconds for the step that is running, at least
_ENDS: dict[str, TrainingState] = {"end": "done", "stopped": "stopped", "error": "failed"}
_REPLACED = ".replaced"


class Jobs:
    """The jobs in a folder.

    Args:
        root: the folder that holds a folder a job.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def runs(self) -> tuple[TrainingRun, ...]:
        """All jobs, the one that was started last at the end."""
        found = [path for path in self.root.glob("*") if (path / folders.SPEC).is_file()]
        found.sort(key=lambda path: (path / folders.SPEC).stat().st_mtime)
        return tuple(Job(path).run() for path in found)

    def find(self, name: str = "") -> Job:
        """A job by its name; the one started last unless given.

        Raises:
            TrainingError: there is none.
        """
        names = [run.name for run in self.runs()]
        if name in names or (not name and names):
            return Job(self.root / (name or names[-1]))
        if not name:
            raise TrainingError(f"no model has been tuned in {self.root}", "Type %llm_finetune DATA --name my-tuned")
        hint = did_you_mean(name, names) or "%llm_finetune --list shows those that there are"
        raise TrainingError(f"there is no fine-tuning job {name}", hint)

    def start(self, decided: Decided) -> Job:
        """Start a job. An earlier one of its name is kept in ``.replaced`` until the next.

        Args:
            decided: from ``spec.decide``.

        Raises:
            TrainingError: one of that name runs, or the disk is too small.
            MissingPackageError: what the back end needs is not installed.
        """
        spec = decided.spec
        _backend(spec).check(spec)
        job = Job(self.root / spec.request.name)
        if job.running:
            raise TrainingError(
                f"{spec.request.name} is being trained already",
                f"Type %llm_finetune --status, or %llm_finetune --stop {spec.request.name}",
            )
        try:
            self._set_aside(job.folder)
            _check_disk(spec, self.root)
            job.write(decided)
        except OSError as error:
            raise TrainingError(
                f"{job.folder} cannot be written: {error.strerror or error}",
                "Free some disk, or work in another folder",
            ) from error
        job.launch()
        return job

    def resume(self, decided: Decided | None = None, *, name: str = "") -> Job:
        """Go on from the last checkpoint; from the beginning where there is none.

        Args:
            decided: what was typed with ``--resume``, if anything was; it has to be the same job.
            name: the job; the one started last unless given.

        Raises:
            TrainingError: no such job, it runs, it is done, or its data or options have changed.
        """
        job = self.find(decided.spec.request.name if decided else name)
        run = job.run()
        if job.running:
            raise TrainingError(f"{run.name} is being trained already", "Type %llm_finetune --status")
        if run.state == "done":
            raise TrainingError(f"{run.name} came to its end", "Type the same line without --resume to train it anew")
        if decided is not None:
            changed = read_spec(job.folder).changes(decided.spec)
            if changed:
                raise TrainingError(
                    f"{run.name} cannot be resumed: {'; '.join(changed)}",
                    "Type %llm_finetune --resume alone, or the line without --resume to train anew",
                )
            job.keep_background(decided.spec.request.background)
        _backend(read_spec(job.folder)).check(read_spec(job.folder))
        job.launch()
        return job

    def _set_aside(self, folder: Path) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            if any(folder.iterdir()) and not (folder / folders.SPEC).is_file():
                raise TrainingError(f"{folder} holds something else", "Take another --name")
            aside = self.root / _REPLACED / folder.name
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(exist_ok=True)
            folder.rename(aside)


class Job:
    """One job, by its folder. Any number of notebooks may hold the same one.

    Args:
        folder: its folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def write(self, decided: Decided) -> None:
        """Write everything that the worker reads."""
        self.folder.mkdir()
        for name, rows in ((folders.TRAIN, decided.train), (folders.VALID, decided.valid)):
            lines = "".join(row.as_json() + "\n" for row in rows)
            (self.folder / name).write_text(lines, encoding="utf-8", errors="surrogatepass")
        folders.write_json(self.folder / folders.SPEC, decided.spec.as_dict())

    def launch(self) -> None:
        """Start the worker: from the last whole checkpoint where there is one."""
        spec = read_spec(self.folder)
        (self.folder / folders.STOP).unlink(missing_ok=True)
        self.touch()
        folders.remove_unfinished(self.folder)
        EventLog(self.folder).write("start")
        backend = _backend(spec)
        environment = backend.environment(spec, os.environ)
        group = processes.start(
            backend.command(spec, self.folder),
            environment,
            self.folder / folders.LOG,
            self.folder,
        )
        folders.write_json(self.folder / folders.PROCESS, dataclasses.asdict(group))

    def keep_background(self, background: bool) -> None:
        """Note whether the job goes on where nobody watches; the one thing that may change when it is resumed."""
        spec = read_spec(self.folder)
        request = dataclasses.replace(spec.request, background=background)
        folders.write_json(self.folder / folders.SPEC, dataclasses.replace(spec, request=request).as_dict())

    def touch(self) -> None:
        """Say that somebody watches."""
        (self.folder / folders.WATCHED).touch()

    @property
    def group(self) -> processes.Group | None:
        """The processes that train or trained it; None before the first."""
        try:
            record = json.loads((self.folder / folders.PROCESS).read_text(encoding="utf-8"))
            return processes.Group(int(record["pid"]), float(record["born"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def running(self) -> bool:
        """Whether any process of it runs."""
        group = self.group
        return group is not None and processes.alive(group)

    def run(self) -> TrainingRun:
        """The job as it stands."""
        spec = read_spec(self.folder)
        running = self.running  # before the events are read: one that ends in between has written its last
        events = read_events(self.folder)
        latest = events[max((at for at, event in enumerate(events) if event.kind == "start"), default=0) :]
        last = next((event for event in reversed(latest) if event.kind in _ENDS), None)
        state: TrainingState = _ENDS[last.kind] if last else "running" if running else "killed"
        text = last.text if last else "" if running else "its process is gone without a word"
        adapter, merged = self.folder / folders.ADAPTER, self.folder / folders.MERGED
        return TrainingRun(
            name=spec.request.name,
            state=state,
            base=spec.request.base,
            folder=str(self.folder),
            trainer=spec.request.trainer,
            backend=spec.request.backend,
            events=events,
            adapter=str(adapter) if adapter.is_dir() else "",
            merged=str(merged) if merged.is_dir() else "",
            text=text,
        )

    def follow(self, interval: float = 0.25) -> Iterator[tuple[TrainingEvent, ...]]:
        """Watch the job until its processes have ended.

        Args:
            interval: seconds between two looks.

        Yields:
            What is new, at every look; often nothing.
        """
        reader = EventReader(self.folder)
        while True:
            running = self.running
            self.touch()
            yield tuple(reader.new())
            if not running:
                return
            time.sleep(interval)

    def stop(self, patience: float = PATIENCE) -> TrainingRun:
        """End the job: after its step it saves a checkpoint and the adapter. Afterwards nothing of it runs.

        Args:
            patience: seconds for that; three of its own steps where those take longer.

        Returns:
            How it stands then.
        """
        group = self.group
        if group is not None and processes.alive(group):
            (self.folder / folders.STOP).touch()
            try:
                # No signal at first: torchrun would hand it on and kill what is still saving half a minute later.
                if not processes.wait(group, max(patience, 3 * _longest_step(read_events(self.folder)))):
                    processes.end(group, patience=15)
            except KeyboardInterrupt:  # a person who stops twice does not want to wait
                processes.end(group, patience=1)
        return self.run()


def _backend(spec: TrainingSpec) -> ModuleType:
    """The module with ``check``, ``command`` and ``environment`` of a job's back end."""
    return autotrain if spec.request.backend == "autotrain" else trl


def _longest_step(events: tuple[TrainingEvent, ...]) -> float:
    times = [event.time for event in events if event.kind in ("begin", "step")]
    return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)


def _check_disk(spec: TrainingSpec, root: Path) -> None:
    """Two checkpoints with Adam's two figures a weight and the adapter; the merged model where asked for."""
    layers = spec.base.parameters / (12 * spec.base.width**2)  # a transformer's layer has about 12 width**2 weights
    adapter = 4 * layers * 18 * spec.base.width * spec.request.lora_r  # bytes; four to seven matrices a layer
    needed = int(7 * adapter) + (4 * spec.base.parameters if spec.request.merge_adapter else 0)
    free = shutil.disk_usage(root).free
    if needed > free:
        raise TrainingError(
            f"checkpoints and results take {needed / 1e9:.1f} GB, and {root} has {free / 1e9:.1f} GB",
            "Free some disk, or take a smaller --lora-r",
        )
