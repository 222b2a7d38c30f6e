"""Chunks: their offsets, their places, and the splitters."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_magics.errors import InputError
from llm_magics.knowledge.base import Document
from llm_magics.knowledge.passages import place_of
from llm_magics.knowledge.splitting import SPLITTERS, find_headings, outline, split
from llm_magics.values.knowledge import Splitting

MANUAL = "# Git\n\nA tool.\n\n## Commit\n\nRecords changes.\n\n```\n# no heading\n```\n\n## Push\n\nSends them.\n"


@pytest.mark.parametrize("splitter", SPLITTERS)
@settings(deadline=None, max_examples=40)
@given(text=st.text(alphabet="ab #\n.é<>/", max_size=400), size=st.integers(5, 60), overlap=st.integers(0, 4))
def test_chunks_are_pieces_of_the_text_in_order(splitter, text, size, overlap):
    chunks = split(Document(text, "a", "markdown"), Splitting(splitter, size, overlap))
    assert all(0 <= chunk.start < chunk.end <= len(text) for chunk in chunks)
    assert all(text[chunk.start : chunk.end].strip() for chunk in chunks)
    assert all(one.start < two.start for one, two in itertools.pairwise(chunks))
    if splitter == "recursive" and not overlap:
        assert "".join(text[chunk.start : chunk.end] for chunk in chunks).split() or not text.split()
        assert sum(len("".join(text[c.start : c.end].split())) for c in chunks) == len("".join(text.split()))


def test_character_cuts_as_langchain_does():
    from langchain_text_splitters import CharacterTextSplitter

    text = "\n\n".join(f"paragraph {number} " * 20 for number in range(20)) + "\n\n\n\n" + "long " * 400
    ours = [text[c.start : c.end] for c in split(Document(text, "a"), Splitting("character"))]
    theirs = CharacterTextSplitter(separator="\n\n", chunk_size=1000, chunk_overlap=0).split_text(text)
    assert [piece.split() for piece in ours] == [piece.split() for piece in theirs]


def test_markdown_never_crosses_a_heading():
    chunks = split(Document(MANUAL, "a.md", "markdown"), Splitting("markdown"))
    assert [chunk.place for chunk in chunks] == ["Git", "Git > Commit", "Git > Push"]


def test_headings_of_each_way_to_write_them():
    text = "Title\n=====\n\ntext\n\nPart\n----\n\n| a |\n|---|\n\n```\nCode\n====\n```\nSmall\n~~~~~\n"
    found = [(heading.level, heading.title) for heading in find_headings(text)]
    assert found == [(1, "Title"), (2, "Part"), (3, "Small")]
    assert all(text[heading.start :].startswith(heading.title) for heading in find_headings(text))


def test_code_is_cut_at_functions():
    text = "\n\n".join(f"def f{number}():\n    return {number}" for number in range(9))
    chunks = split(Document(text, "a.py", "python"), Splitting("code", 40))
    assert all(text[chunk.start :].startswith("def ") for chunk in chunks)
    assert chunks[1].place == "lines 4-5"


def test_token_counts_with_the_models_own_tokens():
    text = "word " * 100
    chunks = split(Document(text, "a"), Splitting("token", 10), count_tokens=lambda piece: 2 * len(piece.split()))
    assert {len(text[c.start : c.end].split()) for c in chunks} == {5}


@pytest.mark.parametrize(("options", "said"), [(("recursiv",), "Did you mean recursive"), (("token", 10, 10), "below")])
def test_what_does_not_fit_is_named(options, said):
    with pytest.raises(InputError, match=said):
        split(Document("text", "a"), Splitting(*options))


def test_a_description_hangs_under_its_term():
    text = "core.limit\n:   The limit.\n    It is 5.\n\n    small\n    :   Up to 2.\n\ncore.next\n:   More.\n"
    assert outline(text, text.index("It is 5")) == ["core.limit"]
    assert outline(text, text.index("Up to 2")) == ["core.limit", "small"]
    assert outline(text, text.index("core.next")) == []


def test_a_statement_hangs_under_its_function_and_class():
    text = "class Cat:\n    def eat(self):\n        a = 1\n        return a\n"
    assert outline(text, text.index("return")) == ["class Cat", "def eat(self)"]


def test_prose_at_the_edge_hangs_under_nothing():
    assert outline("One line.\nAnother line.\n", 12) == []


@given(text=st.text(alphabet="ab:\t \n", max_size=200), at=st.integers(0, 200))
def test_the_outline_of_any_text_is_made_of_lines_before_it(text, at):
    above = text[: min(at, len(text))]
    assert all(line in above for line in outline(text, min(at, len(text))))


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (["The magics", "The magics > Opening > %llm_load"], "The magics > Opening > %llm_load"),
        (["Guide > Install", "Guide > Use"], "Guide > Install to Use"),
        (["Guide > Install", "Guide > Use > Ask"], "Guide > Install to Use > Ask"),
        (["Guide > Install", "Guide"], "Guide > Install to Guide"),
        (["Guide", "Guide", "Guide"], "Guide"),
        (["Cats", "Dogs"], "Cats to Dogs"),
        (["page 3", "page 4"], "page 3 to page 4"),
    ],
)
def test_the_place_of_neighbours_says_what_they_share_once(places: list[str], said: str):
    assert place_of(places) == said
