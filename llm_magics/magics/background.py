"""Tells how jobs ended that nobody watches: once, below the cell during which the end came."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TrainingError

if TYPE_CHECKING:
    from ..finetuning.jobs import Job


class BackgroundJobs:
    """The jobs of one shell that run while other cells do.

    Args:
        shell: the IPython shell.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._jobs: dict[Path, Job] = {}  # most shells have none, and then no cell waits for a look

    def expect(self, job: Job) -> None:
        """Tell its end when it comes."""
        if not self._jobs:
            self._shell.events.register("post_run_cell", self._tell)
        self._jobs[job.folder] = job

    def forget(self, folder: Path) -> None:
        """Tell nothing of the job in that folder: its end is on the page, or will be."""
        if self._jobs.pop(folder, None) and not self._jobs:
            self._shell.events.unregister("post_run_cell", self._tell)

    def close(self) -> None:
        """Tell nothing more."""
        for folder in tuple(self._jobs):
            self.forget(folder)

    def _tell(self, result: Any = None) -> None:
        from ..display.training import ended_text

        for folder, job in tuple(self._jobs.items()):
            if not job.running:
                self.forget(folder)
                with contextlib.suppress(TrainingError):  # its folder was removed
                    print(ended_text(job.run()))
