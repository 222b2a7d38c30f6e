"""An environment of its own for AutoTrain, whose pins no notebook of today can share.

Made on first use with uv from a lock that comes with this package, kept in the user's cache, and made again
where anything is missing. uv does not read pip's configuration, so its indexes and folders are handed on.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.resources
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ..cache_folders import cache_folder
from ..errors import MissingPackageError, TrainingError
from .folders import alone

AUTOTRAIN = "autotrain-advanced==0.8.36"
_LOCK = "autotrain.lock"
_WHOLE = "llm_magics.whole"
_HINT = "Look at the network and the disk, or take --backend trl"
# pip's setting -> uv's option.
_FLAGS = {
    "index-url": "--index-url", "extra-index-url": "--extra-index-url", "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
}  # fmt: skip
_SECTIONS = ("global", "install", ":env:")  # of pip's settings; a later one's wins
_TRUE = ("y", "yes", "t", "true", "on", "1")


def autotrain_environment(say: Callable[[str], None]) -> Path:
    """The folder of the environment, made or repaired where needed.

    Args:
        say: told in one line what takes long.

    Raises:
        MissingPackageError: uv is not installed.
        TrainingError: uv could not make it, or it does not start; with its own line.
    """
    lock = importlib.resources.files(__package__).joinpath(_LOCK)
    text = lock.read_text(encoding="utf-8")
    name = hashlib.sha256((text + AUTOTRAIN + sys.version).encode()).hexdigest()[:12]
    folder = cache_folder("environments") / f"autotrain-{name}"
    with alone(folder.with_suffix(".lock")):
        if (folder / _WHOLE).is_file() and not _what_fails(folder):
            return folder
        say(f"Making an environment for AutoTrain, once ({folder}): about 15 seconds where uv knows its packages…")
        _make(folder, text)
    return folder


def _what_fails(folder: Path) -> str:
    """Why its interpreter or AutoTrain's program does not start, in the last line that is said; empty where they do.

    A Python that was updated or removed under it shows here, and a library that torch lacks.
    """
    if not (folder / "bin" / "autotrain").is_file():
        return "there is no program autotrain in it"
    check = "import torch, accelerate, bitsandbytes, peft, transformers, trl, autotrain.trainers.clm.params"
    command = [str(folder / "bin" / "python"), "-c", check]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stderr.strip() or "it does not start").splitlines()[-1] if done.returncode else ""


def _make(folder: Path, lock: str) -> None:
    uv = _find_uv()
    shutil.rmtree(folder, ignore_errors=True)
    places = _pip_places()
    _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
    requirements = folder / "requirements.txt"
    requirements.write_text(lock, encoding="utf-8")
    install = [uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), *places]
    install += ["--index-strategy", "unsafe-best-match"]
    _run([*install, "--no-deps", "-r", str(requirements)])
    torch = next(line for line in lock.splitlines() if line.startswith("torch=="))
    _run([*install, "--constraint", str(requirements), torch])  # what it needs besides differs from machine to machine
    _run([*install, "--no-deps", AUTOTRAIN])
    if reason := _what_fails(folder):
        raise TrainingError(f"the environment for AutoTrain was made and does not start: {reason[:300]}", _HINT)
    (folder / _WHOLE).touch()


def _find_uv() -> str:
    with contextlib.suppress(ImportError):
        from uv import find_uv_bin

        return str(find_uv_bin())
    found = shutil.which("uv")
    if found is None:
        raise MissingPackageError("uv", "autotrain")
    return found


def _run(command: Sequence[str]) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(command, capture_output=True, text=True, env=kept)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        said = next((line for line in lines if "error" in line.lower()), (lines or ["nothing"])[-1])
        raise TrainingError(
            f"the environment for AutoTrain could not be made: {said[:300]}",
            _HINT,
        )


def _pip_places() -> list[str]:
    """Where pip looks for packages here, as options of uv."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, env=dict(os.environ)
    )
    return pip_places(done.stdout)


def pip_places(listed: str) -> list[str]:
    """Options of uv for what ``pip config list`` shows of places to look for packages.

    Args:
        listed: lines in the order of the alphabet, such as ``:env:.no-index='1'`` (of a variable) or
            ``global.find-links='/opt/wheels'``.
    """
    found: dict[str, list[str]] = {}
    for wanted in _SECTIONS:
        for line in listed.splitlines():
            key, _, value = line.partition("=")
            section, _, name = key.rpartition(".")
            if section == wanted and (name in _FLAGS or name == "no-index"):
                found[name] = ast.literal_eval(value).split() or found.get(name, [])
    switches = ["--no-index"] if " ".join(found.pop("no-index", [])).lower() in _TRUE else []
    return switches + [word for name, values in found.items() for value in values for word in (_FLAGS[name], value)]
