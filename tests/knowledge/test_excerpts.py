"""What of a passage a model is given to read."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_magics.knowledge.excerpts import excerpts, near_passages
from llm_magics.knowledge.keywords import matches
from llm_magics.values.knowledge import Passage

FILLER = " ".join(f"Sentence {number} is about something else." for number in "abcdef")
DOCUMENT = f"{FILLER}\n\ngc.limit\n:   Packs up to this limit.\n    The default is 50.\n\ngc.other\n:   {FILLER}\n"
QUESTION = "What is the default of gc.limit?"


def passage(text: str, before: int = 0, source: str = "a") -> Passage:
    return Passage(text, source, before, before + len(text), "Settings", matches=matches(text, QUESTION))


def test_the_sentences_that_answer_are_kept_with_their_true_offsets():
    (found,) = excerpts(QUESTION, [passage(DOCUMENT, before=100)], size=120, count=1)
    assert "The default is 50." in found.text and len(found.text) <= 120
    assert DOCUMENT[found.start - 100 : found.end - 100] == found.text


def test_an_excerpt_says_which_term_it_describes():
    (found,) = excerpts("the default is?", [passage(DOCUMENT)], size=30, count=1)
    assert found.text == "The default is 50." and found.place == "Settings > gc.limit"


def test_marks_stay_on_their_words():
    (found,) = excerpts(QUESTION, [passage(DOCUMENT)], size=120, count=1)
    assert found.matches == matches(found.text, QUESTION) and found.matches


def test_a_number_is_preferred_where_one_is_asked_for():
    texts = ["The limit of packs is high in the limit.", "The limit of packs is 50 here."]
    found = excerpts("How many packs are the limit?", [passage(f"{texts[0]} {FILLER} {texts[1]}")], size=60)
    assert "50" in found[0].text


def test_the_nearest_come_first_at_most_two_of_a_passage_and_apart():
    others = [passage(FILLER, source=name) for name in "bcd"]
    found = excerpts(QUESTION, [*others, passage(DOCUMENT)], size=80, count=5)
    assert found[0].source == "a" and "50" in found[0].text
    spans = sorted((one.source, one.start, one.end) for one in found)
    assert all(one[0] != two[0] or one[2] <= two[1] for one, two in itertools.pairwise(spans))
    assert max(sum(one.source == name for one in found) for name in "abcd") <= 2 and len(found) == 5


@pytest.mark.model
def test_with_an_embedder_a_sentence_without_a_shared_word_is_found(minilm):
    text = f"{FILLER} The animal was tired and slept. {FILLER}"
    found = excerpts("Did the dog rest?", [passage(text)], size=40, count=1, embedder=minilm)
    assert "slept" in found[0].text


def test_of_short_passages_twice_as_many_are_read_and_of_long_ones_three():
    short = [passage(f"The limit of pack {n} is {n}.", source=f"s{n}") for n in range(20)]
    long = [passage(f"The limit of pack {n} is {n}, {'and so on ' * 30}", source=f"s{n}") for n in range(20)]
    for texts, near, read in ((short, 10, 6), (long, 5, 3)):
        found = near_passages(texts)
        assert found == texts[:near]
        assert len(excerpts("What is the limit of a pack?", found)) == read
        assert len(excerpts("What is the limit of a pack?", found, count=4)) == 4
    some = excerpts("What is the limit of a pack?", [long[0], *short])
    assert 3 < len(some) <= 6 and sum(len(one.text) for one in some) <= 450


def test_a_short_passage_stays_whole():
    (found,) = excerpts("cats", [passage("Cats eat fish.")])
    assert found.text == "Cats eat fish."


def test_no_passage_gives_no_excerpt():
    assert excerpts(QUESTION, []) == () and excerpts(QUESTION, [passage("  \n ")]) == ()


CODE = "".join(f"    set_option_{number}(value)\n" for number in range(60))
ROW = "| " + " | ".join(f"column {number} holds nothing of use" for number in range(60)) + " |"
HAN = "".join(f"第{number}句话说的是别的事情。" for number in range(60))
BARE = "無" * 900


@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("filler", "answer", "question"),
    [
        (CODE, "    open_door(speed=7)\n", "With which speed does it open the door?"),
        (ROW, " the door opens at speed 7 |", "At which speed does the door open?"),
        (HAN, "默认端口是八千零八十。", "默认端口是多少?"),
        (BARE, "默认端口是八千零八十", "默认端口是多少?"),
    ],
)
def test_what_answers_is_read_wherever_it_stands_in_a_text_without_sentences(filler, answer, question, where):
    at = round(where * len(filler))
    at = filler.find("\n", at) + 1 if "\n" in filler[at:] else at
    (found,) = excerpts(question, [passage(f"{filler[:at]}{answer}{filler[at:]}")], count=1)
    assert answer.strip() in found.text and len(found.text) <= 300


@given(text=st.text(alphabet="ab .\n:5", max_size=300), before=st.integers(0, 9), size=st.integers(5, 80))
def test_excerpts_of_any_text_are_pieces_of_it(text, before, size):
    for found in excerpts("a b 5", [passage(text, before)], size=size):
        assert found.text == text[found.start - before : found.end - before] and found.text.strip()
        assert len(found.text) <= 2 * size


def test_the_same_words_in_two_sources_are_read_once():
    twins = [passage(DOCUMENT, source="manual.html"), passage(DOCUMENT, source="manual.txt")]
    found = excerpts(QUESTION, twins, size=120, count=4)
    assert len({one.text for one in found}) == len(found) and "50" in found[0].text
