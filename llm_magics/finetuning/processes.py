"""Groups of processes that outlive the notebook that started them: found again, asked to end, and ended.

A group is known by its first process: number and time of birth, since the system gives numbers out again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SAME = 1.0  # seconds within which two readings of one birth lie


@dataclass(frozen=True, slots=True)
class Group:
    """A process that leads a group of its own.

    Attributes:
        pid: its number, which is the group's too.
        born: seconds since 1970.
    """

    pid: int
    born: float


def start(command: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path) -> Group:
    """Start a command in a session of its own: the notebook's interrupt does not reach it, and it survives it.

    Args:
        command: program and arguments.
        environment: all of its variables.
        log: file that its output is added to.
        folder: where it runs.
    """
    import psutil

    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        born = psutil.Process(process.pid).create_time()
    except psutil.NoSuchProcess:
        born = time.time()
    return Group(process.pid, born)


def alive(group: Group) -> bool:
    """Whether any process of the group still runs. One that has ended and is not collected yet does not count."""
    return bool(_members(group))


def _members(group: Group) -> list[int]:
    import psutil

    with contextlib.suppress(ChildProcessError, OSError):
        os.waitpid(group.pid, os.WNOHANG)  # collects it where this process started it
    try:
        leader = psutil.Process(group.pid)
        if abs(leader.create_time() - group.born) > _SAME:
            return []  # the number belongs to another process now
        if os.getpgid(group.pid) != group.pid:
            return [group.pid]  # between its birth and its session
    except (psutil.NoSuchProcess, ProcessLookupError):
        pass  # the first one is gone; the system keeps its number from others while the group has members
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getpgid(process.pid) == group.pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def wait(group: Group, seconds: float) -> bool:
    """Wait until the group has ended, at most so many seconds.

    Returns:
        Whether it has ended.
    """
    until = time.monotonic() + seconds
    while alive(group):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def end(group: Group, *, patience: float) -> None:
    """End a group: SIGINT, then SIGTERM, then SIGKILL. Afterwards nothing of it runs.

    Args:
        group: from ``start``.
        patience: seconds after SIGINT; SIGTERM is given a third of them.
    """
    for number, seconds in ((signal.SIGINT, patience), (signal.SIGTERM, patience / 3), (signal.SIGKILL, 10.0)):
        if not alive(group):
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group.pid, number)
        if wait(group, seconds):
            return
