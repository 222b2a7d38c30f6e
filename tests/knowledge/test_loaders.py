"""Files of every kind, folders, variables, and what cannot be read."""

from __future__ import annotations

import json
import os
import zipfile
from types import SimpleNamespace

import pytest

from llm_magics.errors import InputError, KnowledgeError
from llm_magics.knowledge.base import Document
from llm_magics.knowledge.loaders import document, from_variable, load
from llm_magics.values.knowledge import RetrievalRequest, Splitting

WORDS = "The quick brown fox"


def make_docx(path):
    docx = pytest.importorskip("docx", reason="python-docx writes the file that is read here")
    made = docx.Document()
    made.add_heading("Animals", 1)
    made.add_paragraph(WORDS)
    made.save(path)


def make_pptx(path):
    pptx = pytest.importorskip("pptx", reason="python-pptx writes the file that is read here")
    made = pptx.Presentation()
    for title in ("Nothing", WORDS):
        made.slides.add_slide(made.slide_layouts[5]).shapes.title.text = title
    made.save(path)


def make_pdf(path):
    canvas = pytest.importorskip("reportlab.pdfgen.canvas", reason="reportlab writes the file that is read here")
    made = canvas.Canvas(str(path))
    for line in ("Nothing here", WORDS):
        made.drawString(72, 720, line)
        made.showPage()
    made.save()


def make_ipynb(path):
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Animals\n", WORDS]},
        {"cell_type": "code", "metadata": {}, "source": ["1 + 1"], "outputs": [], "execution_count": None},
    ]
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))


def write(text, encoding="utf-8"):
    return lambda path: path.write_text(text, encoding=encoding)


FORMATS = {
    "a.txt": write(WORDS),
    "latin.txt": write(f"{WORDS}. Größe, Übung, schön und gut, für alle Fälle.", "latin-1"),
    "wide.txt": write(WORDS, "utf-16"),
    "a.md": write(f"# Animals\n\n{WORDS}"),
    "a.rst": write(f"Animals\n=======\n\n{WORDS}"),
    "a.html": write(f"<html><script>evil()</script><h1>Animals</h1><p>{WORDS}</p></html>"),
    "a.csv": write(f'name,text\nfox,"{WORDS}"\ndog,lazy'),
    "a.jsonl": write(json.dumps({"text": WORDS}) + "\n\n" + json.dumps({"name": "dog", "age": 3})),
    "a.py": write(f'def fox():\n    """{WORDS}."""\n'),
    "a.ipynb": make_ipynb,
    "a.docx": make_docx,
    "a.pptx": make_pptx,
    "a.pdf": make_pdf,
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_read(name, tmp_path, base):
    FORMATS[name](tmp_path / name)
    loaded = load([str(tmp_path)])
    assert not loaded.skipped
    (found,) = loaded.documents
    assert WORDS in found.text and found.source == str(tmp_path / name)
    assert "evil" not in found.text
    base.add(loaded.documents)
    (passage,) = [passage for passage in base.search("quick fox", RetrievalRequest(k=1))]
    assert passage.text == found.text[passage.start : passage.end]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("a.md", "Animals"),
        ("a.rst", "Animals"),
        ("a.html", "Animals"),
        ("a.docx", "Animals"),
        ("a.py", "lines 1-2"),
        ("a.ipynb", "Animals"),
        ("a.txt", ""),
    ],
)
def test_a_chunk_says_where_it_stands(name, place, tmp_path, base):
    FORMATS[name](tmp_path / name)
    base.add(load([str(tmp_path / name)]).documents)
    assert base.search("quick fox", RetrievalRequest(k=1))[0].place == place


@pytest.mark.parametrize(("name", "place"), [("a.pdf", "page 2"), ("a.pptx", "slide 2")])
def test_pages_and_slides_are_counted_from_one(name, place, tmp_path, base):
    FORMATS[name](tmp_path / name)
    base.add(load([str(tmp_path / name)]).documents, Splitting(size=20))
    assert base.search("quick fox", RetrievalRequest(k=1, search="keyword"))[0].place == place


def test_a_csv_row_keeps_its_columns_names():
    found = document(b"name,age\nfox,3\ndog,\n", "a.csv", ".csv")
    assert found.text == "name: fox\nage: 3\n\nname: dog"


def test_what_cannot_be_read_is_named_and_left_out(tmp_path):
    (tmp_path / "good.txt").write_text(WORDS)
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n\0\0\0")
    (tmp_path / "empty.md").touch()
    (tmp_path / "half.pdf").write_bytes(b"%PDF-1.4 cut off")
    (tmp_path / "no.docx").write_bytes(b"no zip")
    (tmp_path / "bad.jsonl").write_text('{"text": 1}\n{"text"')
    (tmp_path / "no.ipynb").write_text("[]")
    os.mkfifo(tmp_path / "pipe.txt")
    with zipfile.ZipFile(tmp_path / "other.pptx", "w") as other:
        other.writestr("x", "y")
    loaded = load([str(tmp_path)])
    assert [os.path.basename(found.source) for found in loaded.documents] == ["good.txt"]
    assert {os.path.basename(name) for name in loaded.skipped} == {path.name for path in tmp_path.iterdir()} - {
        "good.txt"
    }
    assert "line 2 of" in loaded.skipped[str(tmp_path / "bad.jsonl")]
    for reason in loaded.skipped.values():
        assert reason and "\n" not in reason
    with pytest.raises(KnowledgeError):
        load([str(tmp_path)], strict=True)


def test_folders_leave_out_what_programs_made(tmp_path):
    for name in ("a/b/c.txt", ".git/config", "__pycache__/x.txt", "node_modules/y.txt", ".hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(WORDS)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert [found.source for found in load([str(tmp_path)]).documents] == [str(tmp_path / "a/b/c.txt")]
    (tmp_path / "a/d.md").write_text(WORDS)
    assert [found.source for found in load([f"{tmp_path}/**/*.md"]).documents] == [str(tmp_path / "a/d.md")]


def test_a_wrong_name_offers_the_nearest(tmp_path):
    (tmp_path / "manual.md").touch()
    with pytest.raises(KnowledgeError, match=r"Did you mean .*manual\.md"):
        load([str(tmp_path / "manul.md")])
    with pytest.raises(KnowledgeError, match="no file fits"):
        load([str(tmp_path / "*.pdf")])


@pytest.mark.parametrize("name", ["a\nb\x1b[31m.txt", "<img src=x onerror=alert(1)>.txt", "'; rm -rf *.txt", "[x].txt"])
def test_a_hostile_file_name_is_only_a_name(name, tmp_path, base):
    from llm_magics.knowledge.embeddings import HashingEmbedder
    from llm_magics.knowledge.store import KnowledgeBase

    path = tmp_path / name
    path.write_text(WORDS)
    (tmp_path / f"{name}.bin").write_bytes(b"\0")
    loaded = load([str(tmp_path)])
    (reason,) = loaded.skipped.values()
    assert "\n" not in reason and "\x1b" not in reason
    assert [found.source for found in load([str(path)]).documents] == [str(path)]
    base.add(loaded.documents)
    base.save(tmp_path / "kb")
    again = KnowledgeBase.load(tmp_path / "kb", HashingEmbedder())
    assert list(again.sources) == [str(path)]
    with pytest.raises(KnowledgeError) as caught:
        again.remove(f"{path}?")
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_a_name_that_is_no_utf_8_can_be_saved(tmp_path, base):
    from llm_magics.knowledge.embeddings import HashingEmbedder
    from llm_magics.knowledge.store import KnowledgeBase

    with open(os.path.join(os.fsencode(tmp_path), b"caf\xe9.txt"), "w") as file:
        file.write(WORDS)
    base.add(load([str(tmp_path)]).documents)
    base.save(tmp_path / "kb")
    assert KnowledgeBase.load(tmp_path / "kb", HashingEmbedder()).search("fox")[0].text == WORDS


def test_variables_of_each_kind():
    def page(text, number):
        return SimpleNamespace(page_content=text, metadata={"source": "a.pdf", "page": number})

    assert from_variable("x", "notes") == [Document("x", "notes")]
    assert [found.source for found in from_variable(["x", "y"], "notes")] == ["notes[0]", "notes[1]"]
    (joined,) = from_variable([page("one", 0), page("two", 1)], "pages")
    assert (joined.source, joined.text, joined.pages) == ("a.pdf", "one\n\ntwo", (0, 5))
    assert joined.page_word == "page"
    (single,) = from_variable([SimpleNamespace(page_content="x", metadata={"source": "b", "when": 1 + 2j})], "docs")
    assert single.metadata == {"source": "b", "when": "(1+2j)"}
    with pytest.raises(InputError, match=r"rows\[1\] is a float, not a text"):
        from_variable(["x", float("nan")], "rows")
    for wrong in (3, None, b"x", {"a": 1}):
        with pytest.raises(InputError, match="--var takes"):
            from_variable(wrong, "value")


def test_a_dataframe_column_is_a_list_of_texts():
    pandas = pytest.importorskip("pandas")
    assert len(from_variable(pandas.DataFrame({"text": ["x", "y"]})["text"], "rows")) == 2
