from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llm_magics.engines.stop_texts import StopTexts


def shown(pieces, stops):
    cut = StopTexts(stops)
    text = ""
    for piece in pieces:
        text += cut.push(piece)
        if cut.found:
            return text, True
    return text + cut.flush(), False


def test_a_stop_text_in_two_pieces_is_found():
    assert shown(["one EN", "D two"], ["END"]) == ("one ", True)


def test_a_beginning_that_becomes_no_stop_text_is_shown_after_all():
    assert shown(["one EN", "TER"], ["END"]) == ("one ENTER", False)


def test_without_stop_texts_nothing_is_held_back():
    assert StopTexts([]).push("anything") == "anything"


@given(st.lists(st.text("ab\n", max_size=4)), st.lists(st.text("ab\n", min_size=1, max_size=3), max_size=3))
def test_what_is_shown_is_the_text_before_the_first_stop_text(pieces, stops):
    whole = "".join(pieces)
    text, found = shown(pieces, stops)
    assert found == any(stop in whole for stop in stops)
    if not found:
        assert text == whole
    else:
        assert whole.startswith(text)
        assert not any(stop in text for stop in stops)
