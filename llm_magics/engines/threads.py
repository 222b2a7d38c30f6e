"""How many threads compute, and what they do while they wait. Both engines use OpenMP."""

from __future__ import annotations

import os

_FEW = 4  # cores


def wait_passively() -> None:
    """On few cores let OpenMP's threads sleep while they wait. Counts where no OpenMP is loaded yet.

    Threads that spin while they wait lose everything on few cores that others use too:
    docs/decisions.md, "Threads". A policy that is already set stays.
    """
    if (os.cpu_count() or 1) <= _FEW:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def physical_cores() -> int:
    """Cores that this process may use, two threads of one core counted once."""
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))
