"""Groups of processes that outlive the notebook that started them: found again, asked to end, and ended.

A group is known by its first process: its number and its birth, since the system gives numbers out again. Where a
folder is shared by several machines, it is known there too, and neither seen nor ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Group:
    """A process that leads a group of its own.

    Attributes:
        pid: its number, which is the group's too.
        born: what tells it from another process of its number, from ``_birth``.
        host: name of the machine that it runs on; empty where it was noted by a version that kept none: this one.
    """

    pid: int
    born: str
    host: str = ""


def start(command: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path) -> Group:
    """Start a command in a session of its own: the notebook's interrupt does not reach it, and it survives it.

    Args:
        command: program and arguments.
        environment: all of its variables.
        log: file that its output is added to.
        folder: where it runs.
    """
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
    return Group(process.pid, _birth(process.pid) or f"{_boot()} gone", socket.gethostname())


def elsewhere(group: Group) -> bool:
    """Whether a group was started on another machine, or in another container, of which nothing can be seen here.

    A machine may be called otherwise than before, as laptops are in another network: what runs here is not elsewhere.

    Args:
        group: from ``start``, on any machine.
    """
    return group.host not in ("", socket.gethostname()) and _birth(group.pid) != group.born


def alive(group: Group) -> bool:
    """Whether any process of the group still runs. One that has ended and is not collected yet does not count.

    Args:
        group: from ``start``. One that is ``elsewhere`` counts as one that runs: what was taken for dead there would be
            started a second time in the same folder. Whether it has ended its own files have to tell.
    """
    return elsewhere(group) or bool(_members(group))


def _members(group: Group) -> list[int]:
    import psutil

    with contextlib.suppress(ChildProcessError, OSError):
        os.waitpid(group.pid, os.WNOHANG)  # collects it where this process started it
    if not group.born.startswith(f"{_boot()} "):
        return []  # its machine was started anew
    born = _birth(group.pid)
    if born not in ("", group.born):
        return []  # the number belongs to another process now
    with contextlib.suppress(ProcessLookupError):
        if born and os.getpgid(group.pid) != group.pid:
            return [group.pid]  # between its birth and its session
    # Where the first one is gone, the system keeps its number from others while the group has members.
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getpgid(process.pid) == group.pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def _boot() -> str:
    """What tells this run of the machine from others; a dash where the system does not say."""
    return _BOOT.read_text().strip() if _BOOT.is_file() else "-"


def _birth(pid: int) -> str:
    """When a process began, in a form that stays the same while it lives; empty where there is none.

    Linux counts from the start of the machine. Seconds since 1970, as psutil makes them of that, move when the clock is
    set, and a job that runs would be taken for one that is gone. Other systems note the time itself.
    """
    import psutil

    try:
        if not _BOOT.is_file():
            return f"{_boot()} {psutil.Process(pid).create_time():.2f}"
        after_its_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return f"{_boot()} {after_its_name[19]}"  # field 22 of proc_pid_stat(5): starttime, in clock ticks
    except (OSError, psutil.Error):
        return ""


def wait(group: Group, seconds: float) -> bool:
    """Wait until the group has ended, at most so many seconds. One that is ``elsewhere`` is not seen to end.

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
    """End a group: SIGINT, then SIGTERM, then SIGKILL. Afterwards nothing of it runs. One that is ``elsewhere`` gets no
    signal: its number means another process here.

    Args:
        group: from ``start``.
        patience: seconds after SIGINT; SIGTERM is given a third of them.
    """
    if elsewhere(group):
        return
    for number, seconds in ((signal.SIGINT, patience), (signal.SIGTERM, patience / 3), (signal.SIGKILL, 10.0)):
        if not alive(group):
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group.pid, number)
        if wait(group, seconds):
            return
