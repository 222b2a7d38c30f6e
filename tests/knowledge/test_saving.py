"""Saved bases: whole after any kill, and refused when something changed them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from llm_magics.errors import KnowledgeError
from llm_magics.knowledge.base import Document
from llm_magics.knowledge.embeddings import HashingEmbedder
from llm_magics.knowledge.store import KnowledgeBase
from llm_magics.values.knowledge import RetrievalRequest, Splitting


@pytest.fixture
def saved(base, tmp_path):
    base.add([Document("# Pets\n\ncats eat fish", "a.md", "markdown"), Document("rain falls", "b", pages=(0,))])
    base.save(tmp_path / "kb")
    return tmp_path / "kb"


def opened(folder):
    return KnowledgeBase.load(folder, HashingEmbedder())


def test_a_saved_base_answers_as_before(base, saved):
    again = opened(saved)
    for way in ("hybrid", "dense", "keyword"):
        request = RetrievalRequest(search=way)
        assert again.search("cats fish", request) == base.search("cats fish", request)
    assert again.sources == base.sources and again.name == base.name
    assert again.add([Document("# Pets\n\ncats eat fish", "a.md", "markdown")]).unchanged == 1
    again.add([Document("snow", "c")])
    again.save(saved)
    assert list(opened(saved).sources) == ["a.md", "b", "c"]
    assert len(list(saved.iterdir())) == 3


def test_an_empty_base_can_be_saved(base, tmp_path):
    base.save(tmp_path / "kb")
    assert len(opened(tmp_path / "kb")) == 0


def test_nothing_is_pickled(saved):
    for path in saved.iterdir():
        assert path.suffix in (".json", ".jsonl", ".faiss")
        assert not path.read_bytes().startswith(b"\x80")


CHILD = """
import sys
from llm_magics.knowledge.base import Document
from llm_magics.knowledge.embeddings import HashingEmbedder
from llm_magics.knowledge.store import KnowledgeBase
folder = sys.argv[1]
base = KnowledgeBase.load(folder, HashingEmbedder())
print("ready", flush=True)
for number in range(10**6):
    base.add([Document(f"version {number} " * 400, "v"), Document(f"twin {number} " * 400, "w")], Splitting(size=100))
    base.save(folder)
    print(number, flush=True)
"""


@pytest.mark.slow
def test_a_save_killed_at_any_moment_leaves_the_last_or_the_new_base(base, tmp_path):
    folder, draw = tmp_path / "kb", random.Random(7)
    base.add(
        [Document(f"version start {'x ' * 2000}", "v"), Document(f"twin start {'x ' * 2000}", "w")], Splitting(size=100)
    )
    base.save(folder)
    for _ in range(30):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        time.sleep(draw.uniform(0, 0.25))
        os.kill(child.pid, signal.SIGKILL)
        reported = [int(line) for line in child.stdout.read().split()]
        child.wait()
        again = opened(folder)
        versions = {again._sources[name].document.text.split()[1] for name in ("v", "w")}
        assert len(versions) == 1, "half of one save and half of another"
        (version,) = versions
        if reported:
            assert int(version) in (reported[-1], reported[-1] + 1)
        assert again.search("version", RetrievalRequest(k=1)) and len(again) == sum(again.sources.values())


def test_what_killed_kernels_left_goes_after_an_hour(base, saved):
    left = saved / f"vectors-{'0' * 16}.faiss"
    left.touch()
    base.save(saved)
    assert left.exists(), "another kernel may be writing it"
    os.utime(left, (0, 0))
    base.save(saved)
    assert not left.exists()


@pytest.mark.parametrize("pattern", ["sources-*", "vectors-*", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "missing"])
def test_a_damaged_folder_is_one_line(saved, pattern, damage):
    (path,) = saved.glob(pattern)
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        middle = bytes([data[len(data) // 2] ^ 1])
        changed = data[: len(data) // 2] + middle + data[len(data) // 2 + 1 :]
        path.write_bytes({"cut": data[:-10], "changed": changed, "empty": b""}[damage])
    with pytest.raises(KnowledgeError) as caught:
        opened(saved)
    assert "\n" not in str(caught.value) and caught.value.hint


def test_an_edited_count_or_path_is_noticed(saved):
    manifest = json.loads((saved / "manifest.json").read_text())
    for edit in ({"chunks": 1}, {"files": {"sources": "../../etc/passwd", "vectors": "x"}}, {"files": None}):
        (saved / "manifest.json").write_text(json.dumps(manifest | edit))
        with pytest.raises(KnowledgeError, match="damaged"):
            opened(saved)


def test_foreign_folders_are_refused(base, tmp_path):
    with pytest.raises(KnowledgeError, match="there is no folder"):
        opened(tmp_path / "nowhere")
    with pytest.raises(KnowledgeError, match="holds no knowledge base"):
        opened(tmp_path)
    (tmp_path / "index.pkl").touch()
    with pytest.raises(KnowledgeError, match=r"LangChain.*--var"):
        opened(tmp_path)
    with pytest.raises(KnowledgeError, match=r"holds other files, such as index\.pkl"):
        base.save(tmp_path)
    for text in ('{"name": "my app"}', "[]", "null", "[" * 100_000):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(KnowledgeError):
            opened(tmp_path)
        with pytest.raises(KnowledgeError, match="holds other files"):
            base.save(tmp_path)
    assert (tmp_path / "index.pkl").exists()


def test_a_newer_format_says_to_upgrade(saved):
    manifest = json.loads((saved / "manifest.json").read_text()) | {"version": 99}
    (saved / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(KnowledgeError, match="--upgrade"):
        opened(saved)


def test_another_embedding_model_is_refused(saved):
    with pytest.raises(KnowledgeError, match="made with hashing-256, not hashing-64"):
        KnowledgeBase.load(saved, HashingEmbedder(64))


def test_the_model_can_be_opened_by_its_name(saved):
    asked = []

    def open_embedder(name):
        asked.append(name)
        return HashingEmbedder()

    assert len(KnowledgeBase.load(saved, open_embedder)) == 2
    assert asked == ["hashing-256"]


def test_a_folder_that_cannot_be_written_says_so(base, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(KnowledgeError, match="is a file"):
        base.save(tmp_path / "file")
    with pytest.raises(KnowledgeError, match="could not be saved"):
        base.save(tmp_path / "file" / "below")


def test_a_folder_of_langchains_faiss_is_refused_with_the_way_to_convert_it(tmp_path):
    (tmp_path / "index.faiss").write_bytes(b"IxFI")
    (tmp_path / "index.pkl").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(KnowledgeError, match=r"pickle.*%rag_add --var list\(db\.docstore\._dict\.values\(\)\)"):
        opened(tmp_path)
