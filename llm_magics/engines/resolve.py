"""From what a person types to the place of the weights. Reads no weights and asks no network."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..aliases import MODELS
from ..errors import ModelFileError, ModelNotFoundError, did_you_mean
from .server_address import is_address, parse

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model lies.

    Attributes:
        kind: ``gguf`` file, ``folder`` in the form of transformers, ``hub`` id, or a ``server``'s model.
        location: path, Hub id, or ``NAME@http://host:8000/v1``.
        name: what to call the model where the person gives no name.
        stamp: when local files were last changed, in seconds since 1970; 0 on the Hub.
    """

    kind: Literal["gguf", "folder", "hub", "server"]
    location: str
    name: str
    stamp: float = 0.0


def resolve(model: str, *, revision: str = "", known: Iterable[str] = ()) -> Source:
    """Find a model by alias, path, Hub id or a server's address.

    Args:
        model: what was typed.
        revision: a revision on the Hub; with one, an alias means its Hub repository.
        known: names of loaded models, offered when nothing is found.

    Raises:
        ModelNotFoundError: nothing of that name; the nearest names are offered.
        ModelFileError: it is there and is no model.
        InputError: a server's address that cannot be used.
    """
    if is_address(model):
        address = parse(model)
        return Source("server", str(address), address.name)
    alias = MODELS.get(model)
    if alias is not None:
        packaged = None if revision or _in_hub_cache(alias.hub) else alias.packaged()
        return Source("gguf", str(packaged), model) if packaged else Source("hub", alias.hub, model)
    if re.match("https?://", model, re.IGNORECASE):
        url = re.sub(r"//[^/@]*@", "//", model)  # a key in it is not repeated
        raise ModelNotFoundError(f"{url} names a server and no model", f"Type %llm_load MODEL@{url}")
    path = Path(model).expanduser()
    if path.is_dir():
        return _folder(path, model)
    if path.is_file():
        return _file(path, model)
    if model.startswith((".", "/", "~")) or path.suffix == ".gguf":
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ModelNotFoundError(f"there is no file or folder {model}", did_you_mean(path.name, siblings))
    if _HUB_ID.fullmatch(model):
        return Source("hub", model, model.rpartition("/")[2].lower())
    names = [*MODELS, *known, *_cached_ids()]
    raise ModelNotFoundError(
        f"there is no model {model}",
        did_you_mean(model, names, count=3)
        or f"Take one of {', '.join(MODELS)}, a Hub id such as Qwen/Qwen3-0.6B, a folder or a .gguf file",
    )


def _folder(path: Path, typed: str) -> Source:
    if (path / "config.json").is_file():
        stamp = max(entry.stat().st_mtime for entry in path.iterdir())
        return Source("folder", str(path.resolve()), path.resolve().name, stamp)
    files = sorted(entry.name for entry in path.iterdir())
    gguf = next((name for name in files if name.endswith(".gguf")), None)
    if gguf:
        raise ModelFileError(f"{typed} has no config.json", f"Type %llm_load {path / gguf}")
    holds = ", ".join(files[:4]) + (", …" if len(files) > 4 else "") if files else "nothing"
    raise ModelFileError(
        f"{typed} is no model folder: config.json is missing; it holds {holds}",
        "Give the folder that save_pretrained wrote",
    )


def _file(path: Path, typed: str) -> Source:
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        raise ModelFileError(
            f"{typed} is no GGUF file: it begins with {magic!r}", "Give a .gguf file or a model folder"
        )
    return Source("gguf", str(path.resolve()), path.stem, path.stat().st_mtime)


def hub_cache() -> Path:
    """The folder in which huggingface_hub keeps models (its documented environment variables)."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")).expanduser()


def _cached_ids() -> list[str]:
    return [entry.name[8:].replace("--", "/") for entry in hub_cache().glob("models--*")]


def _in_hub_cache(hub_id: str) -> bool:
    folder = hub_cache() / f"models--{hub_id.replace('/', '--')}" / "snapshots"
    return any(is_whole(snapshot) for snapshot in folder.glob("*"))


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a configuration and every file of its weights."""
    index = folder / "model.safetensors.index.json"
    try:
        names = set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else {"model.safetensors"}
    except (ValueError, KeyError):
        return False
    return all((folder / name).is_file() for name in ("config.json", *names))
