"""Whether a job should end: a signal, a file in its folder, or no notebook that watches it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from llm_magics.finetuning import folders
from llm_magics.finetuning.jobs import Job
from llm_magics.finetuning.spec import read_spec

_NOTED = 20.0  # seconds after which whoever started this process has noted it
_UNWATCHED = float(os.environ.get("LLM_MAGICS_UNWATCHED_SECONDS", "300"))


class StopRequest:
    """Whether somebody wants the job to end, asked after every step.

    Args:
        folder: the job's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._signalled = False
        self._seen = 0.0
        self._noted = 0  # the number of the job's first process, once it was seen
        self._since = self._began = time.monotonic()

    def listen(self) -> None:
        """From now on a signal no longer ends the process, but asks for the end."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, *unused: object) -> None:
        self._signalled = True

    def reason(self) -> str:
        """Why the job should end, in words; empty where it should not."""
        if self._signalled or (self._folder / folders.STOP).exists():
            return "stopped"
        if self._disowned():
            return "stopped: the job's folder names another process"
        # Read anew each time: ``--resume --background`` reaches a job that runs.
        if self._watched() or read_spec(self._folder).request.background:
            return ""
        return f"stopped: no notebook has watched it for {_UNWATCHED:.0f} seconds"

    def _disowned(self) -> bool:
        """Whether whoever started this process did not live to note it, or another has been started since: nobody
        could end it. On several machines the note is of one of them."""
        if time.monotonic() - self._began < _NOTED:
            return False
        group = Job(self._folder).group
        if group is not None and group.pid != self._noted:
            import psutil

            # torchrun's processes have groups of their own: it is the noted one that began them.
            if group.pid in (os.getpid(), *(parent.pid for parent in psutil.Process().parents())):
                self._noted = group.pid
        known = group is not None and group.pid == self._noted
        return not known and read_spec(self._folder).request.nodes == 1

    def _watched(self) -> bool:
        """A notebook touches a file while it looks. Only changes of its time count: two clocks may differ, and
        this process's own stands still while a laptop sleeps."""
        try:
            seen = (self._folder / folders.WATCHED).stat().st_mtime
        except OSError:
            seen = 0.0
        if seen != self._seen:
            self._seen, self._since = seen, time.monotonic()
        return time.monotonic() - self._since < _UNWATCHED
