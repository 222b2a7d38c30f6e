"""What of a passage a model is given to read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llm_magics.knowledge.excerpts import excerpts
from llm_magics.knowledge.keywords import matches
from llm_magics.messages import Passage

FILLER = " ".join(f"Sentence {number} is about something else." for number in "abcdef")
DOCUMENT = f"{FILLER}\n\ngc.limit\n:   Packs up to this limit.\n    The default is 50.\n\ngc.other\n:   {FILLER}\n"
QUESTION = "What is the default of gc.limit?"


def passage(text: str, before: int = 0, source: str = "a") -> Passage:
    return Passage(text, source, before, before + len(text), "Settings", matches=matches(text, QUESTION))


def test_the_sentences_that_answer_are_kept_with_their_true_offsets():
    (found,) = excerpts(QUESTION, [passage(DOCUMENT, before=100)], size=120)
    assert "The default is 50." in found.text and len(found.text) <= 120
    assert DOCUMENT[found.start - 100 : found.end - 100] == found.text


def test_an_excerpt_says_which_term_it_describes():
    (found,) = excerpts("the default is?", [passage(DOCUMENT)], size=30)
    assert found.text == "The default is 50." and found.place == "Settings > gc.limit"


def test_marks_stay_on_their_words():
    (found,) = excerpts(QUESTION, [passage(DOCUMENT)], size=120)
    assert found.matches == matches(found.text, QUESTION) and found.matches


def test_a_number_is_preferred_where_one_is_asked_for():
    texts = ["The limit of packs is high in the limit.", "The limit of packs is 50 here."]
    found = excerpts("How many packs are the limit?", [passage(f"{texts[0]} {FILLER} {texts[1]}")], size=60)
    assert "50" in found[0].text


def test_the_nearest_passages_are_kept_one_excerpt_each():
    others = [passage(FILLER, source=name) for name in "bcd"]
    found = excerpts(QUESTION, [*others, passage(DOCUMENT)], count=2)
    assert found[0].source == "a" and len({one.source for one in found}) == 2


def test_a_short_passage_stays_whole():
    (found,) = excerpts("cats", [passage("Cats eat fish.")])
    assert found.text == "Cats eat fish."


def test_no_passage_gives_no_excerpt():
    assert excerpts(QUESTION, []) == () and excerpts(QUESTION, [passage("  \n ")]) == ()


@given(text=st.text(alphabet="ab .\n:5", max_size=300), before=st.integers(0, 9), size=st.integers(5, 80))
def test_excerpts_of_any_text_are_pieces_of_it(text, before, size):
    for found in excerpts("a b 5", [passage(text, before)], size=size):
        assert found.text == text[found.start - before : found.end - before] and found.text.strip()
        assert len(found.text) <= 2 * size
