"""Words of a question, and where they stand in a passage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_magics.knowledge.keywords import KeywordIndex, matches


def marked(text: str, question: str) -> list[str]:
    return [text[start:end] for start, end in matches(text, question)]


def test_words_of_the_question_are_marked_whatever_their_plural():
    text = "A branch is a pointer; branches are listed by git branch. Branching costs nothing."
    assert marked(text, "How do I list branches?") == ["branch", "branches", "branch"]


@pytest.mark.parametrize(
    ("one", "many"),
    [("branch", "branches"), ("cache", "caches"), ("size", "sizes"), ("entry", "entries"), ("class", "classes")],
)
def test_one_and_many_are_the_same_word(one, many):
    assert marked(one, many) == [one] and marked(many, one) == [many]


def test_whole_words_are_marked_and_not_parts_of_others():
    assert marked("A category of cats: the cat.", "Where is my cat?") == ["cats", "cat"]


def test_the_commonest_words_are_not_marked():
    assert marked("It is what it is, and that is all of it.", "What is it and is that all?") == []


def test_a_name_is_marked_whole_where_it_was_asked_for_whole_and_else_by_its_part():
    text = "Set gc.autoPackLimit, or gc.auto."
    assert marked(text, "What is gc.autoPackLimit?") == ["gc.autoPackLimit", "gc", "auto"]
    assert marked(text, "What limits the packs?") == ["autoPackLimit"]


@pytest.mark.parametrize("question", ["", "???", "the of", "🙂", "\x00"])
def test_a_question_without_words_marks_nothing(question):
    assert matches("cats eat fish", question) == ()


@given(text=st.text(max_size=200), question=st.text(max_size=50))
def test_marks_are_in_order_and_apart_in_any_text(text, question):
    found = matches(text, question)
    edges = [edge for pair in found for edge in pair]
    assert edges == sorted(edges) and all(0 <= start < end <= len(text) for start, end in found)


def test_a_rare_word_counts_more_than_a_common_one():
    texts = {number: f"file number {number}" for number in range(20)} | {20: "a reflog of something"}
    assert KeywordIndex(texts).search("file reflog", 1)[0][0] == 20


def test_chinese_and_japanese_are_found_by_pairs_of_letters():
    texts = {0: "默认端口是八千零八十。", 1: "猫吃鱼。", 2: "既定のポートは五千です。"}
    index = KeywordIndex(texts)
    assert index.search("服务器的默认端口是多少?", 1)[0][0] == 0
    assert index.search("既定のポート番号は?", 1)[0][0] == 2
    assert marked(texts[0], "默认端口") == ["默认端口"]
    assert marked("Llama2模型很小", "llama 模型") == ["Llama", "模型"]
