"""Jobs: a folder each, a process group each; started, followed, stopped, resumed, found again.

A job belongs to no notebook. Whoever follows it touches a file; where nobody does for some minutes, a job
that was not started with ``--background`` saves what it has and ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

from ..errors import Interrupted, TrainingError, did_you_mean
from ..values.training import TrainingEvent, TrainingRun, TrainingState
from . import autotrain, folders, processes, trl
from .events import FILE as EVENTS
from .events import EventLog, EventReader, read_events
from .spec import Decided, TrainingSpec, read_spec

_WITHOUT_A_WORD = f"its process is gone without a word; {folders.LOG} in its folder may tell why"
_GONE = 600.0  # seconds without an event, after which a job that cannot be seen is taken for gone
PATIENCE = 60.0  # seconds for the step that is running, at least
_ENDS: dict[str, TrainingState] = {"end": "done", "stopped": "stopped", "error": "failed"}
_REPLACED, _NEW = ".replaced", ".new"


class Jobs:
    """The jobs in a folder.

    Args:
        root: the folder that holds a folder a job.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def runs(self) -> tuple[TrainingRun, ...]:
        """All jobs, the one that was started last at the end."""
        return tuple(Job(path).run() for path, _ in self._readable())

    def find(self, name: str = "") -> Job:
        """A job by its name; the one started last unless given.

        Raises:
            TrainingError: there is none.
        """
        names = self.names
        if name in names or (not name and names):
            return Job(self.root / (name or names[-1]))
        if not name:
            raise TrainingError(f"no model has been tuned in {self.root}", "Type %llm_finetune DATA --name my-tuned")
        hint = did_you_mean(name, names) or "%llm_finetune --list shows those that there are"
        raise TrainingError(f"there is no fine-tuning job {name}", hint)

    @property
    def names(self) -> list[str]:
        """The names of the jobs, the one that was started last at the end."""
        return [path.name for path, _ in self._readable()]

    def _readable(self) -> Iterator[tuple[Path, TrainingSpec]]:
        """The jobs' folders with their specs, the one that was started last at the end."""
        found = [path for path in self.root.glob("*") if (path / folders.SPEC).is_file()]
        found.sort(key=lambda path: (path / folders.SPEC).stat().st_mtime)
        for path in found:
            with contextlib.suppress(TrainingError):  # one damaged folder does not hide the others
                yield path, read_spec(path)

    def running(self, name: str = "") -> Job:
        """The job that runs, or the one of that name.

        Raises:
            TrainingError: there is none, or several run and none is named.
        """
        if name:
            return self.find(name)
        running = [run.name for run in self.runs() if run.state == "running"]
        if len(running) != 1:
            which = f"{' and '.join(running)} are being trained" if running else "nothing is being trained here"
            hint = f"Type %llm_finetune --stop {running[0]}" if running else "%llm_finetune --list shows the jobs"
            raise TrainingError(which, hint)
        return self.find(running[0])

    def start(self, decided: Decided) -> Job:
        """Start a job. An earlier one of its name is kept in ``.replaced`` until the next.

        Args:
            decided: from ``spec.decide``.

        Raises:
            TrainingError: one of that name runs, or the disk is too small.
            MissingPackageError: what the back end needs is not installed.
        """
        spec, name = decided.spec, decided.spec.request.name
        _backend(spec).check(spec)
        job, new = Job(self.root / name), Job(self.root / _NEW / name)
        with _writing(job.folder), self._alone(name):
            if job.running:
                raise TrainingError(
                    f"{name} is being trained already",
                    f"Type %llm_finetune --status, or %llm_finetune --stop {name}",
                )
            # What can fail comes before the earlier job of that name is put aside.
            _check_disk(spec, self.root)
            environment = _environment(spec)
            shutil.rmtree(new.folder, ignore_errors=True)
            new.write(decided)
            self._set_aside(job.folder)
            new.folder.rename(job.folder)
            job.launch(environment)
        return job

    def check(self, decided: Decided) -> None:
        """Raise where a job cannot be started on this machine.

        Args:
            decided: from ``spec.decide``.

        Raises:
            MissingPackageError: what the back end needs is not installed.
            TrainingError: the back end cannot do it.
        """
        _backend(decided.spec).check(decided.spec)

    def resume(
        self,
        decided: Decided | None = None,
        *,
        name: str = "",
        typed: Mapping[str, object] | None = None,
        background: bool | None = None,
    ) -> Job:
        """Go on from the last checkpoint; from the beginning where there is none. A job that runs is found again.

        Args:
            decided: what was typed with ``--resume``, if anything was; it has to be the same job.
            name: the job; unless given one that runs, else the last that is not done.
            typed: fields of its request that were typed beside its name; they have to be the job's.
            background: whether it goes on where nobody watches; as before unless given.

        Raises:
            TrainingError: no such job, it is done, its data or options have changed, or the disk is too small.
            MissingPackageError: what the back end needs is not installed.
        """
        job = self.find(decided.spec.request.name if decided else name or "".join(self.unfinished()[-1:]))
        run = job.run()
        if run.state == "done":
            named = decided is not None or name
            raise TrainingError(
                f"{run.name} came to its end" if named else f"every job here came to its end, {run.name} the last",
                "Type its line without --resume to train it anew; %llm_finetune --list shows the jobs",
            )
        spec = read_spec(job.folder)
        changed = spec.changes(decided.spec) if decided else spec.contradicted(typed) if typed else ()
        if changed:
            raise TrainingError(
                f"{run.name} cannot be resumed: {'; '.join(changed)}",
                f"Type %llm_finetune {run.name} --resume alone, or the line without --resume to train anew",
            )
        if decided is not None:
            background = decided.spec.request.background or None
        _backend(spec).check(spec)
        with _writing(job.folder):
            if background is not None:
                job.keep_background(background)
            with self._alone(run.name):
                if not job.running:
                    _check_disk(spec, self.root)
                    job.launch(_environment(spec))
        return job

    def opens_earlier(self, name: str) -> str:
        """What to type for the model that a job of this name made before the one that there is now.

        Args:
            name: of the job.

        Returns:
            A line for ``%llm_load``; empty where there is no such model.
        """
        for aside in (self.root / _REPLACED / name, self._unfinished(name)):
            run = Job(aside).run() if (aside / folders.SPEC).is_file() else None
            if run is not None and run.adapter:
                where = shlex.quote(os.path.relpath(aside))
                return f"%llm_load {shlex.quote(run.base)} --adapter {where} --as {name}-earlier"
        return ""

    def was_killed(self, decided: Decided) -> TrainingRun | None:
        """The same job as one that is to be started, where it is there, was killed and can go on: nobody wanted its
        end.

        Args:
            decided: from ``spec.decide``.
        """
        name = decided.spec.request.name
        if name not in self.names or folders.last_checkpoint(self.root / name) is None:
            return None
        run, changed = self.find(name).run(), read_spec(self.root / name).changes(decided.spec)
        return run if run.state == "killed" and not changed else None

    def _alone(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Two notebooks that start one job at once would train in one folder: the second waits, and sees the first."""
        return folders.alone(self.root / f".{name}.lock")

    def unfinished(self, but: str = "") -> list[str]:
        """The jobs that have not come to their end, by their names; the one that ``--resume`` alone means comes last.

        Args:
            but: one that is left out.
        """
        runs = [run for run in self.runs() if run.state != "done" and run.name != but]
        return [run.name for run in sorted(runs, key=lambda run: run.state == "running")]

    def _set_aside(self, folder: Path) -> None:
        if folder.exists():
            if any(folder.iterdir()) and not (folder / folders.SPEC).is_file():
                raise TrainingError(f"{folder} holds something else", "Take another --name")
            # What did not come to its end takes the place of no model, nor of what came further.
            unfinished, run = self._unfinished(folder.name), Job(folder).run()
            aside = self.root / _REPLACED / folder.name if run.state == "done" else unfinished
            if aside == unfinished and (aside / folders.SPEC).is_file() and Job(aside).run().step > run.step:
                shutil.rmtree(folder)
                return
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(exist_ok=True)
            folder.rename(aside)

    def _unfinished(self, name: str) -> Path:
        return self.root / _REPLACED / f"{name}.unfinished"


class Job:
    """One job, by its folder. Any number of notebooks may hold the same one.

    Args:
        folder: its folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def write(self, decided: Decided) -> None:
        """Write everything that the worker reads."""
        self.folder.mkdir(parents=True)
        files = {folders.TRAIN: decided.train, folders.VALID: decided.valid, folders.GENERAL: decided.general}
        for name, rows in files.items():
            lines = "".join(row.as_json() + "\n" for row in rows)
            (self.folder / name).write_text(lines, encoding="utf-8")
        folders.write_json(self.folder / folders.SPEC, decided.spec.as_dict())

    def launch(self, environment: Mapping[str, str]) -> None:
        """Start the worker: from the last whole checkpoint where there is one.

        Args:
            environment: the worker's.
        """
        spec = read_spec(self.folder)
        (self.folder / folders.STOP).unlink(missing_ok=True)
        self.touch()
        folders.remove_unfinished(self.folder)
        EventLog(self.folder).write("start")
        group = processes.start(
            _backend(spec).command(spec, self.folder),
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
            return processes.Group(int(record["pid"]), str(record["born"]), str(record.get("host", "")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def spec(self) -> TrainingSpec:
        """Everything that decides how it comes out."""
        return read_spec(self.folder)

    @property
    def running(self) -> bool:
        """Whether any process of it runs. On another machine, as far as its events tell."""
        group = self.group
        if group is not None and processes.elsewhere(group):
            return not _silent(self.folder)
        return group is not None and processes.alive(group)

    @property
    def elsewhere(self) -> str:
        """The command that each other machine of the job has to run; empty where there is none, or all have come."""
        spec = self.spec
        # The workers write nothing before all machines have met.
        waits = next((event.kind == "start" for event in reversed(read_events(self.folder))), False)
        if spec.request.nodes == 1 or not waits:
            return ""
        return shlex.join(_backend(spec).command(spec, self.folder))

    def run(self) -> TrainingRun:
        """The job as it stands."""
        spec = read_spec(self.folder)
        running = self.running  # before the events are read: one that ends in between has written its last
        events = read_events(self.folder)
        last = _end(events)
        state: TrainingState = _ENDS[last.kind] if last else "running" if running else "killed"
        text = last.text if last else "" if running else _WITHOUT_A_WORD
        adapter, merged = self.folder / folders.ADAPTER, self.folder / folders.MERGED
        return TrainingRun(
            name=self.folder.name,  # of a copied folder too
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

    def ask_to_stop(self) -> None:
        """Let the job end after its step; ``stop`` waits for that."""
        (self.folder / folders.STOP).touch()

    def stop(self, patience: float = PATIENCE) -> TrainingRun:
        """End the job: after its step it saves a checkpoint and the adapter. Afterwards nothing of it runs.

        Args:
            patience: seconds for that; three of its own steps where those take longer.

        Returns:
            How it stands then.
        """
        group = self.group
        if group is not None and processes.elsewhere(group):
            self.ask_to_stop()
            raise TrainingError(
                f"{self.folder.name} runs on {group.host}, and ends there after its step",
                f"%llm_finetune --status {self.folder.name} shows when",
            )
        if group is not None and processes.alive(group):
            alone = bool(self.elsewhere)  # there is nobody who looks for the file, and nothing to save
            self.ask_to_stop()
            try:
                # No signal at first: torchrun would hand it on and kill what is still saving half a minute later.
                patience = 0 if alone else max(patience, 3 * _longest_step(read_events(self.folder)))
                if not processes.wait(group, patience):
                    processes.end(group, patience=15)
            except KeyboardInterrupt:  # a person who stops twice does not want to wait
                processes.end(group, patience=1)
            if alone:
                EventLog(self.folder).write("stopped", text="stopped before the other machines came")
            elif self.run().state == "killed":  # it was asked to end, and had to be ended
                EventLog(self.folder).write("stopped", text="it did not end by itself and was ended")
        return self.run()


def _backend(spec: TrainingSpec) -> ModuleType:
    """The module with ``check``, ``command`` and ``environment`` of a job's back end."""
    return autotrain if spec.request.backend == "autotrain" else trl


def _environment(spec: TrainingSpec) -> dict[str, str]:
    """The environment of a job's worker. AutoTrain's own may have to be made first, which takes its time.

    Raises:
        MissingPackageError: what makes it is not installed.
        TrainingError: AutoTrain's environment cannot be made.
        Interrupted: a person did not want to wait for it.
    """
    try:
        made: dict[str, str] = _backend(spec).environment(spec, os.environ)
    except KeyboardInterrupt:
        raise Interrupted(f"stopped before {spec.request.name} began; the same line begins it") from None
    return made


def _longest_step(events: tuple[TrainingEvent, ...]) -> float:
    marks = [event for event in events if event.kind in ("begin", "step")]
    pairs = itertools.pairwise(marks)  # a pause before a job goes on again is no step
    return max((later.time - earlier.time for earlier, later in pairs if later.kind == "step"), default=0.0)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """One line where the disk refuses.

    Args:
        folder: of the job.
    """
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"{folder} cannot be written: {error.strerror or error}", "Free some disk, or work in another folder"
        ) from error


def _end(events: tuple[TrainingEvent, ...]) -> TrainingEvent | None:
    """How the latest process of a job ended; None where it has written no end."""
    last = next((event for event in reversed(events) if event.kind in ("start", *_ENDS)), None)
    return None if last is None or last.kind == "start" else last


def _silent(folder: Path) -> bool:
    """Whether a job on another machine has written its end, or nothing for so long that it is gone."""
    events = read_events(folder)
    pause = time.time() - (folder / EVENTS).stat().st_mtime
    return _end(events) is not None or pause > max(_GONE, 5 * _longest_step(events))


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
