"""Intervals and paired tests for shares and other scores, by scipy.

Scores are from 0 to 1. Differences are paired: two methods answer the same rows, and what they have in common
does not blur what parts them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import MissingPackageError

CONFIDENCE = 0.95
POWER = 0.8
"""How often a difference of the asked size would be found with the rows that ``rows_needed`` names."""

_RESAMPLES = 9999


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Two methods on the same rows.

    Attributes:
        rows: how many rows both have answered.
        difference: mean score of the first less that of the second.
        interval: of the difference.
        p: probability of such a difference or a larger one where the two are equally good.
        rows_needed: rows with which a difference of 5 points would be found four times of five.
    """

    rows: int
    difference: float
    interval: Interval
    p: float
    rows_needed: int


def interval(scores: Sequence[float], *, seed: int = 0) -> Interval:
    """The confidence interval of a mean score.

    Args:
        scores: one a row, from 0 to 1.
        seed: of the bootstrap.

    Returns:
        For right and wrong alone the score interval of Wilson (1927); for other scores the percentile bootstrap
        (Efron 1979), and where all are equal, so that there is nothing to draw from, Wilson's, which no scores from
        0 to 1 can be wider than. The whole range from 0 to 1 where there are no rows.
    """
    if not scores:
        return Interval(0.0, 1.0)
    if _is_binary(scores) or len(set(scores)) == 1:
        return _wilson(scores)
    return _bootstrap(scores, seed)[0]


def paired(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> PairedTest:
    """Compare two methods on the rows that both have answered.

    For right and wrong alone: McNemar's exact test (McNemar 1947, its exact form the sign test), and the interval of
    Bonett and Price (2012), which keeps its promise with few rows and where no row parts the two. For other
    scores: the paired bootstrap.

    Args:
        first: scores of one method, a row each.
        second: scores of the other on the same rows, in the same order.
        seed: of the bootstrap.
    """
    differences = [a - b for a, b in zip(first, second, strict=True)]
    rows = len(differences)
    if not rows:
        return PairedTest(0, 0.0, Interval(-1.0, 1.0), 1.0, rows_needed(0.5))
    mean = math.fsum(differences) / rows
    if _is_binary(first) and _is_binary(second):
        gains, losses = differences.count(1.0), differences.count(-1.0)
        needed = rows_needed((gains + losses + 1) / (rows + 2))
        return PairedTest(rows, mean, _bonett_price(gains, losses, rows), mcnemar(gains, losses), needed)
    if len(set(differences)) == 1:
        p = 1.0 if mean == 0 else 2.0 ** (1 - rows)  # the sign test: a bootstrap of equal values says nothing
        shares = _wilson([(value + 1) / 2 for value in differences])
        return PairedTest(rows, mean, Interval(2 * shares.low - 1, 2 * shares.high - 1), min(1.0, p), rows_needed(0.0))
    found, means = _bootstrap(differences, seed)
    below, above = sum(value <= 0 for value in means), sum(value >= 0 for value in means)
    p = min(1.0, 2 * (min(below, above) + 1) / (len(means) + 1))
    variance = math.fsum((value - mean) ** 2 for value in differences) / (rows - 1)
    return PairedTest(rows, mean, found, p, rows_needed(variance))


def mcnemar(gains: int, losses: int) -> float:
    """The exact two-sided p value of McNemar's test.

    Args:
        gains: rows that the first alone has right.
        losses: rows that the second alone has right.
    """
    return float(_stats().binomtest(gains, gains + losses).pvalue) if gains + losses else 1.0


def rows_needed(variance: float, difference: float = 0.05) -> int:
    """Rows with which a paired test finds a difference with a probability of 80 %, at the level of 5 %.

    Args:
        variance: mean square of the differences a row; for right and wrong the share of rows that part the two.
        difference: that is to be found, above 0: 0.05 is 5 points.

    Returns:
        From Connor (1987), which for right and wrong is exact enough to plan by.
    """
    variance = max(variance, difference)  # fewer rows than the difference itself cannot part them
    normal = _stats().norm
    level, power = normal.ppf((1 + CONFIDENCE) / 2), normal.ppf(POWER)
    root = level * math.sqrt(variance) + power * math.sqrt(max(variance - difference**2, 0.0))
    return math.ceil(float(root / difference) ** 2)


def holm(values: Sequence[float]) -> list[float]:
    """P values of several tests made at once, corrected by Holm (1979), in the given order."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    corrected, largest = [0.0] * len(values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = largest
    return corrected


def _wilson(scores: Sequence[float]) -> Interval:
    """Wilson's interval; for scores between 0 and 1 that of the whole numbers around their sum."""
    total, rows = math.fsum(scores), len(scores)
    low, high = (
        _stats().binomtest(right, rows).proportion_ci(CONFIDENCE, method="wilson")
        for right in (math.floor(total), math.ceil(total))
    )
    return Interval(float(low.low), float(high.high))


def _bonett_price(gains: int, losses: int, rows: int) -> Interval:
    more, less = (gains + 1) / (rows + 2), (losses + 1) / (rows + 2)
    middle = more - less
    width = _stats().norm.ppf((1 + CONFIDENCE) / 2) * math.sqrt((more + less - middle**2) / (rows + 2))
    return Interval(max(-1.0, float(middle - width)), min(1.0, float(middle + width)))


def _bootstrap(values: Sequence[float], seed: int) -> tuple[Interval, list[float]]:
    """The interval of a mean, and the means of the resamples."""
    import numpy

    found = _stats().bootstrap(
        (numpy.asarray(values, dtype=float),),
        numpy.mean,
        n_resamples=_RESAMPLES,
        batch=max(1, 10**6 // len(values)),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=numpy.random.default_rng(seed),
    )
    limits = found.confidence_interval
    return Interval(float(limits.low), float(limits.high)), [float(mean) for mean in found.bootstrap_distribution]


def _is_binary(scores: Sequence[float]) -> bool:
    return all(score in (0.0, 1.0) for score in scores)


def ready() -> None:
    """Load what the tests need, so that neither a missing package nor seconds of loading come after hours of asking.

    Raises:
        MissingPackageError: scipy is not installed.
    """
    _stats()


def _stats() -> Any:
    try:
        import scipy.stats
    except ImportError as error:
        raise MissingPackageError("scipy", "evaluation") from error
    return scipy.stats
