"""Intervals, paired tests and numbers of rows, against scipy, statsmodels and plain simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llm_magics.evaluation import statistics

scipy_stats = pytest.importorskip("scipy.stats")


def statsmodels(module: str) -> Any:
    """A part of statsmodels; without it, the tests against it are skipped, those against scipy are not."""
    return pytest.importorskip(f"statsmodels.stats.{module}", reason="statsmodels is not installed")


binary = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=200)
pairs = st.lists(st.tuples(*[st.sampled_from([0.0, 1.0])] * 2), min_size=1, max_size=200)
scores = st.lists(st.tuples(*[st.sampled_from([0.0, 0.25, 0.5, 1.0])] * 2), min_size=5, max_size=60)


@settings(deadline=None)
@given(binary)
def test_the_interval_of_an_accuracy_is_wilsons(values: list[float]) -> None:
    low, high = statsmodels("proportion").proportion_confint(sum(values), len(values), method="wilson")
    found = statistics.interval(values)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    assert -1e-12 <= found.low <= sum(values) / len(values) + 1e-9


@settings(deadline=None)
@given(pairs)
def test_the_p_value_of_a_paired_comparison_is_mcnemars_exact_one(rows: list[tuple[float, float]]) -> None:
    table = [[sum(row == (a, b) for row in rows) for b in (1.0, 0.0)] for a in (1.0, 0.0)]
    expected = statsmodels("contingency_tables").mcnemar(table, exact=True).pvalue
    found = statistics.paired([a for a, _ in rows], [b for _, b in rows])
    assert found.p == pytest.approx(expected, abs=1e-9)


@settings(deadline=None)
@given(pairs)
def test_a_p_value_is_twice_the_tail_of_the_rows_that_part_the_two(rows: list[tuple[float, float]]) -> None:
    gains, losses = rows.count((1.0, 0.0)), rows.count((0.0, 1.0))
    tail = scipy_stats.binom.cdf(min(gains, losses), gains + losses, 0.5)
    found = statistics.paired([a for a, _ in rows], [b for _, b in rows])
    assert found.p == pytest.approx(min(1.0, 2 * tail), abs=1e-9)
    assert found.difference == pytest.approx(sum(a - b for a, b in rows) / len(rows))
    assert found.interval.low <= found.difference + 1e-9 and found.difference <= found.interval.high + 1e-9


@settings(deadline=None)
@given(pairs)
def test_the_order_of_two_methods_changes_the_sign_alone(rows: list[tuple[float, float]]) -> None:
    one = statistics.paired([a for a, _ in rows], [b for _, b in rows])
    other = statistics.paired([b for _, b in rows], [a for a, _ in rows])
    assert one.p == pytest.approx(other.p) and one.difference == pytest.approx(-other.difference)
    assert (one.interval.low, one.interval.high) == pytest.approx((-other.interval.high, -other.interval.low))


@settings(max_examples=25, deadline=None)
@given(scores, st.integers(0, 1000))
def test_the_interval_of_other_scores_is_scipys_paired_bootstrap(rows: list[tuple[float, float]], seed: int) -> None:
    first, second = [a for a, _ in rows], [b for _, b in rows]
    differences = np.array(first) - np.array(second)
    found = statistics.paired(first, second, seed=seed)
    binary_scores = all(value in (0.0, 1.0) for value in [*first, *second])
    assume(not binary_scores and len(set(differences)) > 1)
    expected = scipy_stats.bootstrap(
        (differences,), np.mean, method="percentile", rng=np.random.default_rng(seed)
    ).confidence_interval
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_equal_scores_of_a_few_rows_are_not_taken_for_certain() -> None:
    found = statistics.interval([0.5, 0.5])
    assert found.low < 0.15 and found.high > 0.85
    assert statistics.interval([0.5] * 1000).high - statistics.interval([0.5] * 1000).low == pytest.approx(
        0.062, abs=0.003
    )
    difference = statistics.paired([0.5] * 3, [0.25] * 3)
    assert difference.interval.low < 0 < difference.difference == 0.25 < difference.interval.high
    assert difference.p == 0.25


@pytest.mark.parametrize("shift", [0.0, 0.2])
def test_the_paired_bootstrap_agrees_with_a_permutation_test(shift: float) -> None:
    draw = np.random.default_rng(3)
    second = draw.choice([0.0, 0.5, 1.0], 80)
    first = np.clip(draw.choice([0.0, 0.5, 1.0], 80) + shift, 0, 1)

    def mean_difference(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        return np.mean(a - b, axis=axis)

    wanted = scipy_stats.permutation_test(
        (first, second), mean_difference, permutation_type="samples", vectorized=True, rng=draw
    )
    assert statistics.paired(list(first), list(second)).p == pytest.approx(wanted.pvalue, abs=0.03)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_several_tests_are_corrected_as_holm_does(values: list[float]) -> None:
    assert statistics.holm(values) == pytest.approx(statsmodels("multitest").multipletests(values, method="holm")[1])


@pytest.mark.parametrize(
    ("both", "one", "other", "rows"), [(0.5, 0.2, 0.1, 40), (0.8, 0.05, 0.05, 90), (0.1, 0.6, 0.1, 25)]
)
def test_the_interval_of_a_difference_holds_the_true_one_as_often_as_it_says(
    both: float, one: float, other: float, rows: int
) -> None:
    draw = np.random.default_rng(11)
    hits = 0
    for _ in range(1000):
        _, gains, losses, _ = draw.multinomial(rows, [both, one, other, 1 - both - one - other])
        found = statistics._bonett_price(int(gains), int(losses), rows)
        hits += found.low <= one - other <= found.high
    assert 0.935 <= hits / 1000 <= 0.99


def test_with_the_rows_that_are_said_to_be_needed_a_difference_is_found_four_times_of_five() -> None:
    draw = np.random.default_rng(5)
    gains, losses = 0.20, 0.10
    rows = statistics.rows_needed(gains + losses, 0.10)
    counts = draw.multinomial(rows, [gains, losses, 1 - gains - losses], size=1000)
    found = np.mean([statistics.mcnemar(int(a), int(b)) < 0.05 for a, b, _ in counts])
    assert 0.74 <= found <= 0.86  # the exact test is a little stricter than the formula


def test_without_rows_or_without_a_difference_nothing_is_claimed() -> None:
    assert statistics.interval([]) == statistics.Interval(0.0, 1.0)
    nothing = statistics.paired([], [])
    assert (nothing.rows, nothing.p, nothing.interval) == (0, 1.0, statistics.Interval(-1.0, 1.0))
    same = statistics.paired([1.0, 0.0] * 10, [1.0, 0.0] * 10)
    assert same.p == 1.0 and same.interval.low < 0 < same.interval.high
    half = statistics.paired([0.5] * 6, [0.5] * 6)
    assert half.p == 1.0
    better = statistics.paired([0.75] * 8, [0.5] * 8)
    assert better.p == pytest.approx(scipy_stats.binomtest(8, 8).pvalue)
