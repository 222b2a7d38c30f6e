"""The card of an evaluation: what can be concluded, the scores as a chart and as a table, and rows that went wrong.

Pure functions from values to HTML and to plain text. The HTML reads without its style sheet: every figure of the
chart, an inline SVG whose text has the page's own colour, stands in the table too. Inputs and answers come from
anywhere: each of them passes through ``markdown.escape``.
"""

from __future__ import annotations

from ..values.evaluation import EvaluationProgress, EvaluationReport, MethodScore, Outcome
from .card import card, foot, head, line
from .markdown import NO_MATHS, escape, printable
from .sources import one_line
from .tables import table_html, table_lines
from .words import counted, duration

TITLE = "%llm_eval"

_WIDTH, _ROW = 720, 26  # of the chart's own coordinates
_NAMES, _FIGURES = 180, 150  # room for the names to the left and the figures to the right
_LONGEST_NAME = 25  # characters of a method's name in the chart
_BAR = 24  # characters of a bar in plain text
_WRONG, _CELL = 4, 160  # rows of a method that went wrong, and characters of a cell in them

_METRICS = {"choice": "accuracy", "json": "fields right", "judge": "judged right"}


def evaluation_html(report: EvaluationReport) -> str:
    """The card of an evaluation.

    Args:
        report: what came of it.
    """
    state, kind = _state(report)
    return card(
        head(TITLE, one_line(report.source), state, kind),
        _sentences(report),
        chart(report),
        table_html(*_table(report)),
        _wrong_html(report),
        foot(_about(report)),
        label=f"Evaluation of {report.source}, {state}",
    )


def evaluation_text(report: EvaluationReport) -> str:
    """The same as plain text.

    Args:
        report: what came of it.
    """
    width = max(len(score.method) for score in report.methods)
    bars = [f"{printable(score.method):<{width}}  {_bar(score)}  {_figure(score)}" for score in report.methods]
    said = [printable(sentence) for sentence in (*report.conclusions, *report.notes)]
    about = " · ".join([TITLE, *([_state(report)[0]] if not report.complete else []), *_about(report)])
    parts = [[printable(about)], said, bars, table_lines(*_table(report))]
    return "\n\n".join("\n".join(part) for part in parts)


def evaluation_bundle(report: EvaluationReport) -> dict[str, str]:
    """What a notebook saves."""
    return {"text/html": evaluation_html(report), "text/plain": evaluation_text(report)}


def evaluation_page(report: EvaluationReport) -> str:
    """A whole HTML page with the card, for a file."""
    title = escape(f"Evaluation of {report.source}")
    begin = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
    return f"{begin}{evaluation_html(report)}</html>\n"


def progress_items(progress: EvaluationProgress) -> list[str]:
    """How far an evaluation is, in words.

    Args:
        progress: answers done and in all, and what goes on.
    """
    if not progress.total:
        return [progress.status or "reading"]
    items = [f"{progress.done:,} of {counted(progress.total, 'answer')}"]
    items += [f"{progress.cached:,} from the cache"] if progress.cached else []
    left = progress.seconds_left
    items += [f"{duration(left)} left"] if progress.done < progress.total and left < float("inf") else []
    return [*items, one_line(progress.status)]


def progress_html(progress: EvaluationProgress) -> str:
    """A bar, what goes on, and the scores so far.

    Args:
        progress: answers done and in all, and the scores.
    """
    share = progress.done / progress.total if progress.total else 0.0
    rows = [(name, f"{100 * score:.0f} %", rows) for name, (rows, score) in progress.scores.items()]
    bar = f'<div class="llm-bar"><progress max="1" value="{share:.4f}" aria-label="answers done"></progress></div>'
    return bar + line(progress_items(progress)) + table_html(("method", "so far", "rows"), rows)


def chart(report: EvaluationReport) -> str:
    """The scores as bars with their 95 % intervals: an inline SVG.

    Args:
        report: what came of the evaluation.
    """
    height = _ROW * len(report.methods) + 22
    described = "; ".join(f"{score.method} {_figure(score)}" for score in report.methods)
    drawn = "".join(_bar_svg(score, place) for place, score in enumerate(report.methods))
    return (
        f'<div class="llm-strip llm-chart"><svg viewBox="0 0 {_WIDTH} {height}" role="img" width="100%" '
        f'style="color:inherit;max-width:{_WIDTH}px" font-size="13" fill="currentColor">'
        f"<title>{escape(described)}</title>{_grid(height)}{drawn}</svg></div>"
    )


def _sentences(report: EvaluationReport) -> str:
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in report.conclusions)
    notes = "".join(f'<div class="llm-none" role="note">{escape(note)}</div>' for note in report.notes)
    return f'<div class="llm-body {NO_MATHS}"><ul class="llm-said">{said}</ul></div>{notes}'


def _state(report: EvaluationReport) -> tuple[str, str]:
    if not report.complete:
        return "stopped", "warn"
    failed = sum(score.failed for score in report.methods)
    if failed:
        return f"{counted(failed, 'row')} failed", "warn"
    return ("leakage", "warn") if report.leaks else ("done", "")


def _about(report: EvaluationReport) -> list[str]:
    done = len({outcome.row for outcome in report.outcomes})
    of = "" if report.complete else f"{done:,} of "
    items = [
        f"{of}{counted(report.rows, 'row')} asked",
        *([counted(report.examples, "example")] if report.examples else []),
        f"metric {report.metric}",
        f"seed {report.seed}",
        *([f"{report.cached:,} answers from the cache"] if report.cached else []),
        f"{report.seconds:.1f} s",
    ]
    return items


def _table(report: EvaluationReport) -> tuple[list[str], list[list[object]]]:
    """The headings and the cells; columns in which nothing happened are left out."""
    name = _METRICS.get(report.metric, "score" if any(score.partly for score in report.methods) else "accuracy")
    first = report.methods[0].method
    compared = any(score.difference for score in report.methods)
    columns = ["method", name, "95 % interval", *([f"against {first}", "p"] if compared else []), "right"]
    states = ("partly", "wrong", "unparsed", "failed")
    shown = [state for state in states if any(getattr(score, state) for score in report.methods)]
    rows: list[list[object]] = []
    for score in report.methods:
        found = score.difference
        rows.append(
            [
                score.method,
                _unanswered(score) or f"{100 * score.score:.0f} %",
                "" if score.unanswered else f"{100 * score.low:.0f} to {100 * score.high:.0f}",
                *(["", ""] if found is None else [_points(found.points), _p(found.corrected)])[: 2 * compared],
                score.right,
                *(getattr(score, state) for state in shown),
                f"{score.prompt_tokens:.0f} + {score.new_tokens:.0f}" if score.model and score.rows else "",
                _seconds(score.seconds) if score.model and score.rows else "",
            ]
        )
    return [*columns, *shown, "tokens a row", "s a row"], rows


def _wrong_html(report: EvaluationReport) -> str:
    """For each method that asks a model, a few of the rows that it has not right, each with its exact prompt."""
    folds = []
    for score in report.methods:
        missed = [outcome for outcome in report.of(score.method) if outcome.state != "right"]
        if score.model and missed:
            more = f", the first {_WRONG} of them" if len(missed) > _WRONG else ""
            rows = "".join(_wrong_row(outcome) for outcome in missed[:_WRONG])
            folds.append(
                f'<details class="llm-fold"><summary>{escape(score.method)} '
                f'<span class="llm-note">{counted(len(missed), "row")} not right{more}</span></summary>{rows}</details>'
            )
    return "".join(folds)


def _wrong_row(outcome: Outcome) -> str:
    said = _cut(outcome.answer) or (outcome.note if outcome.state == "failed" else "no final answer")
    cells = [("asked", _cut(outcome.input)), ("expected", _cut(outcome.expected)), (outcome.state, said)]
    if outcome.note and outcome.state != "failed":
        cells.append(("judge", _cut(outcome.note)))
    rows = "".join(f'<tr><th scope="row">{name}</th><td>{escape(text)}</td></tr>' for name, text in cells)
    return (
        f'<div class="llm-strip"><table class="llm-wrong">{rows}</table>'
        f'<details><summary class="llm-note">Exact prompt of row {outcome.row}</summary>'
        f'<pre class="llm-joined">\n<code>{escape(outcome.prompt)}</code></pre></details></div>'
    )


def _grid(height: int) -> str:
    """Lines and figures at every 25 %."""
    marks = []
    for percent in range(0, 101, 25):
        x = _x(percent / 100)
        marks.append(
            f'<line x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{height - 18}" stroke="currentColor" stroke-opacity=".15"/>'
            f'<text x="{x:.1f}" y="{height - 4}" text-anchor="middle" font-size="11" fill-opacity=".7">'
            f"{percent} %</text>"
        )
    return "".join(marks)


def _bar_svg(score: MethodScore, place: int) -> str:
    top, middle = _ROW * place + 5, _ROW * place + 13
    colour = "var(--jp-brand-color1,#1976d2)" if score.model else "var(--jp-ui-font-color3,#9e9e9e)"
    name = score.method if len(score.method) <= _LONGEST_NAME else f"{score.method[: _LONGEST_NAME - 1]}…"
    low, end, high = _x(score.low), _x(score.score), _x(score.high)
    bar = (
        f'<rect x="{_NAMES}" y="{top}" width="{max(0.0, end - _NAMES):.1f}" height="16" rx="2" '
        f'style="fill:{colour}" fill-opacity=".55"/>'
        f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 5}v10M{high:.1f} {middle - 5}v10" '
        f'stroke="currentColor" stroke-width="1.5" fill="none"/>'
    )
    return (
        f'<text x="{_NAMES - 10}" y="{middle + 4}" text-anchor="end">{escape(name)}</text>'
        f"{'' if score.unanswered else bar}"
        f'<text x="{_WIDTH - _FIGURES + 14}" y="{middle + 4}">{escape(_figure(score))}</text>'
    )


def _x(share: float) -> float:
    return _NAMES + (_WIDTH - _NAMES - _FIGURES) * share


def _bar(score: MethodScore) -> str:
    """A bar of characters with its interval: ``██████▌─────┤``; blank where there is no score."""
    if score.unanswered:
        return " " * (_BAR + 2)
    filled, low, high = (round(_BAR * share) for share in (score.score, score.low, score.high))
    cells = ["█" if place < filled else "─" if low <= place < high else " " for place in range(_BAR)]
    return f"▕{''.join(cells)}▏"


def _unanswered(score: MethodScore) -> str:
    return score.unanswered.removeprefix("has ").removeprefix("was ")


def _figure(score: MethodScore) -> str:
    return _unanswered(score) or f"{100 * score.score:.0f} % ({100 * score.low:.0f} to {100 * score.high:.0f})"


def _points(share: float) -> str:
    points = round(100 * share)
    return f"{points:+d}".replace("-", "\u2212") if points else "0"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds < 10 else f"{seconds:.0f}"


def _cut(text: str) -> str:
    return text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"
