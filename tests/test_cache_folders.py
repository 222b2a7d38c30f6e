"""Folders of the user's cache: whole or not there."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from llm_magics.cache_folders import cache_folder, written_whole


def test_a_folder_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "kind/name"
    with written_whole(folder, "making") as unfinished:
        (unfinished / "file").write_text("new")
        assert not folder.exists()
    assert (folder / "file").read_text() == "new" and [*folder.parent.iterdir()] == [folder]
    assert folder.stat().st_mode & 0o777 == 0o755
    with written_whole(folder, "making") as unfinished:
        (unfinished / "other").touch()
    assert [path.name for path in folder.iterdir()] == ["other"]


def test_an_error_leaves_nothing_and_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), written_whole(tmp_path / "kind/name", "making") as unfinished:
        (unfinished / "half").touch()
        raise KeyboardInterrupt
    assert [*(tmp_path / "kind").iterdir()] == []


def test_what_a_killed_kernel_left_is_removed_an_hour_later_and_a_running_one_left_alone(tmp_path: Path) -> None:
    old, young, other = (tmp_path / name for name in (".making-old", ".making-young", ".others-old"))
    for folder in (old, young, other):
        folder.mkdir()
    for folder in (old, other):
        os.utime(folder, (time.time() - 4000,) * 2)
    with written_whole(tmp_path / "name", "making"):
        pass
    assert not old.exists() and young.exists() and other.exists()


def test_where_another_kernel_was_faster_its_folder_stays(tmp_path: Path) -> None:
    with pytest.raises(OSError), written_whole(tmp_path / "name", "making") as unfinished:
        (unfinished / "mine").touch()
        (tmp_path / "name").mkdir()
        (tmp_path / "name/theirs").touch()
    assert [path.name for path in (tmp_path / "name").iterdir()] == ["theirs"]


def test_the_place_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLM_MAGICS_CACHE", str(tmp_path))
    assert cache_folder("kind") == tmp_path / "kind"
