"""What a table of scores allows to conclude, in sentences that are computed."""

from __future__ import annotations

from collections.abc import Sequence

from ..values.evaluation import LEVEL, Difference, MethodScore

_FEW = 30  # rows below which the intervals alone are worth telling


def conclude(
    scores: Sequence[MethodScore], best: Difference | None, baselines: Sequence[str], metric: str
) -> tuple[str, ...]:
    """What can and what cannot be concluded.

    Args:
        scores: the table.
        best: the best method against the next one, where neither is the first of the table.
        baselines: names of the methods that ask no model.
        metric: how answers were scored.
    """
    answered = [score for score in scores if score.rows]
    if not answered:
        return ("No row was answered: nothing can be concluded.",)
    # The most frequent label is a line to be above, not a way to ask: the table has its figures.
    compared = [score.difference for score in answered if score.method != "majority"]
    said = [sentence(difference) for difference in (*compared, best) if difference is not None]
    said += [f"{score.method} {score.unanswered}: nothing can be said of it." for score in scores if score.unanswered]
    said += _without_model(answered, baselines)
    rows = max(score.rows for score in answered)
    if rows < _FEW:
        said.append(f"{rows} rows are few: the intervals say more than the scores.")
    if metric == "judge":
        said.append("A model judged these answers: weaker evidence than a comparison with known answers.")
    return tuple(said)


def sentence(difference: Difference) -> str:
    """What two methods' difference says.

    Args:
        difference: of the paired test, with a row at least.
    """
    method, reference, points = difference.method, difference.reference, in_points(difference.points, plus=True)
    interval = f"95 % interval {in_points(difference.low)} to {in_points(difference.high)}"
    if difference.found:
        verb = "beats" if difference.points > 0 else "is worse than"
        return f"{method} {verb} {reference}: {points} points, {interval}."
    if difference.p < LEVEL:
        verb = "better" if difference.points > 0 else "worse"
        return (
            f"{method} may be {verb} than {reference}: {points} points, {interval}; among this many comparisons one "
            f"such may come by chance (corrected p {difference.corrected:.2f})."
        )
    rows = "1 row" if difference.rows == 1 else f"{difference.rows} rows"
    needed = (
        f"; about {rounded(difference.rows_needed)} would be needed for 5 points"
        if difference.rows_needed > difference.rows
        else "; a difference of 5 points would show in four of five such runs"
    )
    figures = f"{points} points, {interval}, p {difference.corrected:.2f}"
    return f"{method} against {reference}: not distinguishable with {rows} ({figures}){needed}."


def in_points(share: float, *, plus: bool = False) -> str:
    """A share in points, with a real minus.

    Args:
        share: from -1 to 1.
        plus: whether a gain has its sign too.
    """
    points = round(100 * share)
    return f"\u2212{-points}" if points < 0 else f"+{points}" if plus and points else str(points)


def rounded(rows: int) -> str:
    """Two figures, thousands parted: nobody plans for 387 rows."""
    digits = max(0, len(str(rows)) - 2)
    return f"{round(rows, -digits):,}"


def _without_model(scores: Sequence[MethodScore], baselines: Sequence[str]) -> list[str]:
    """Whether a method without a language model scores as well as the best with one: a person must see that."""
    ranked = sorted(scores, key=lambda score: -score.score)
    plain = next((score for score in ranked if score.method in baselines), None)
    asked = next((score for score in ranked if score.method not in baselines), None)
    if plain is None or asked is None or plain.score < asked.score or not plain.score:
        return []
    return [
        f"{plain.method}, which asks no language model, has {100 * plain.score:.0f} %; "
        f"the best method that asks one is {asked.method} with {100 * asked.score:.0f} %."
    ]
