"""What pip knows of indexes and folders reaches uv, and uv's own words reach the person."""

from __future__ import annotations

import os
import sys

import pytest

from llm_magics.errors import MissingPackageError, TrainingError
from llm_magics.finetuning import environment


def test_what_pip_is_told_is_handed_on():
    listed = (
        ":env:.index-url='https://two/simple'\n"
        ":env:.trusted-host='one two:8080'\n"
        "download.find-links='/not/for/install'\n"
        "global.cert='/etc/ssl/ca.crt'\n"
        "global.extra-index-url='file:///opt/a/simple file:///opt/b/simple'\n"
        "global.find-links='\\n/opt/wheels\\n/opt/more'\n"
        "global.index-url='https://one/simple'\n"
        "global.no-index='0'\n"
    )
    assert environment.pip_places(listed) == [
        "--extra-index-url", "file:///opt/a/simple", "--extra-index-url", "file:///opt/b/simple",
        "--find-links", "/opt/wheels", "--find-links", "/opt/more", "--index-url", "https://two/simple",
        "--allow-insecure-host", "one", "--allow-insecure-host", "two:8080",
    ]  # fmt: skip


def test_variables_and_files_of_pip_are_heard_as_pip_hears_them(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    (tmp_path / "pip.conf").write_text("[global]\nno_index = true\nfind-links = /one\n[install]\nfind-links = /two\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    words = environment._pip_places()
    assert words[0] == "--no-index" and "/two" in words and "/one" not in words
    monkeypatch.setenv("PIP_FIND_LINKS", "/three")
    monkeypatch.setenv("PIP_NO_INDEX", "no")
    words = environment._pip_places()
    assert "/three" in words and "/two" not in words and "--no-index" not in words


@pytest.fixture
def fake_uv(tmp_path, monkeypatch):
    """A uv that does what it is told to and notes its commands."""

    def made(body):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / "uv"
        program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n{body}\n')
        program.chmod(0o755)
        monkeypatch.setitem(sys.modules, "uv", None)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        monkeypatch.setenv("LLM_MAGICS_CACHE", str(tmp_path / "cache"))
        return tmp_path / "calls"

    return made


def test_a_failure_is_one_line_of_uvs_own(fake_uv):
    fake_uv('echo "Resolved 3" >&2; echo "error: no such index" >&2; exit 2')
    with pytest.raises(TrainingError, match="error: no such index"):
        environment.autotrain_environment(lambda line: None)


def test_it_is_made_from_the_lock_once_and_again_where_something_is_missing(fake_uv):
    calls = fake_uv(
        'case "$1" in venv) for f in "$@"; do :; done; mkdir -p "$f/bin"; '
        'printf "#!/bin/sh\\nexit 0" > "$f/bin/python"; cp "$f/bin/python" "$f/bin/autotrain"; '
        'chmod +x "$f/bin/"*;; esac'
    )
    said = []
    folder = environment.autotrain_environment(said.append)
    assert len(said) == 1 and "Making an environment" in said[0]
    assert "transformers==4.48.0" in (folder / "requirements.txt").read_text()
    assert "autotrain-advanced==0.8.36" in calls.read_text()
    assert environment.autotrain_environment(said.append) == folder and len(said) == 1
    (folder / "bin" / "python").unlink()
    assert environment.autotrain_environment(said.append) == folder and len(said) == 2


def test_without_uv_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LLM_MAGICS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(MissingPackageError, match="uv is not installed"):
        environment.autotrain_environment(lambda line: None)
