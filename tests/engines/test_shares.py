"""Shares of answers, and when it is not asked again whether an answer ends after a choice."""

from __future__ import annotations

import math

import pytest

from llm_magics.engines.shares import Endings, shares


def test_shares_sum_to_one_however_small_the_numbers_are() -> None:
    assert shares([-2000.0, -2000.0 + math.log(3)]) == pytest.approx((0.25, 0.75))


def test_endings_that_are_alike_in_eight_prompts_are_known() -> None:
    endings = Endings(2)
    for number in range(8):
        assert endings.known is None
        endings.add([-0.1 - number / 10, -0.2 - number / 10 + number / 1000])
    assert endings.known == pytest.approx([-0.45, -0.5465])


def test_endings_that_differ_are_asked_for_every_prompt() -> None:
    endings = Endings(2)
    for number in range(30):
        endings.add([-0.1, -0.2 - number / 100])
    assert endings.known is None
