"""The card of a fine-tuning job: what was understood, how far it is, its loss curve, what came of it.

Pure functions from values to HTML and to plain text. The HTML reads without its style sheet: the figures stand
in a table, and the curve, an inline SVG whose colours are the text's own, has them as its description.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..values.training import TrainingData, TrainingEvent, TrainingRun, TriedOut
from .card import card, foot, head
from .markdown import NO_MATHS, escape, printable
from .tables import table_html
from .words import duration

_WIDTH, _HEIGHT = 640, 150  # of the curve's own coordinates
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 8, 22
_MOST_POINTS = 200  # of a line: more cannot be told apart, and every one is sent four times a second
_LEAST_DRAWN = 16  # steps that the axis of a running job has room for
_SMOOTHING = 0.8  # weight of the past in the smoothed loss
_ROWS = 5  # of the table of losses
_KINDS = {"running": "running", "stopped": "warn", "failed": "failed", "killed": "failed"}


def training_html(run: TrainingRun) -> str:
    """The card of a job, while it runs and afterwards.

    Args:
        run: the job as it stands.
    """
    return card(
        head("%llm_finetune", f"{run.name} on {run.base}", run.state, _KINDS.get(run.state, "")),
        progress_bar(run),
        loss_curve(run),
        _losses_table(run) if run.state != "running" else "",
        f'<div class="llm-none" role="note">{escape(note)}</div>' if (note := _note(run)) else "",
        foot(figures(run)),
        label=f"Fine-tuning of {run.name}, {run.state}",
    )


def training_text(run: TrainingRun) -> str:
    """The same for places that take plain text only.

    Args:
        run: the job as it stands.
    """
    lines = [_headline(run)]
    lines += [f"step {step}: loss {_number(loss)}{valid}" for step, loss, valid in _shown_losses(run)]
    lines += filter(None, [_note(run)])
    return "\n".join(printable(line) for line in lines)


def training_bundle(run: TrainingRun) -> dict[str, str]:
    """What a notebook saves."""
    return {"text/html": training_html(run), "text/plain": training_text(run)}


def progress_line(run: TrainingRun) -> str:
    """One line on a running job, for a terminal.

    Args:
        run: the job as it stands.
    """
    return printable(" · ".join([run.name, *figures(run)]))


def ended_text(run: TrainingRun) -> str:
    """Two lines on a job that ended while other cells ran: how, and what to type next.

    Args:
        run: the job as it ended.
    """
    opens = f"%llm_load {run.name} opens it" if run.adapter else ""
    return printable("\n".join(filter(None, [_headline(run), "; ".join(filter(None, [_note(run), opens]))])))


def data_html(data: TrainingData) -> str:
    """The card of what was understood of the rows, before anything runs.

    Args:
        data: from the data layer.
    """
    rows = "".join(
        f'<tr><td class="llm-note">{escape(name)}</td><td>{escape(value)}</td></tr>' for name, value in _about(data)
    )
    first = "".join(f"<b>{escape(text)}</b>" if written else escape(text) for text, written in data.first)
    warnings = "".join(f'<div class="llm-none" role="note">{escape(line)}</div>' for line in data.warnings)
    return card(
        head("%llm_finetune", data.source, "with a warning" if data.warnings else "", "warn"),
        f'<div class="llm-scroll {NO_MATHS}"><table class="llm-table">{rows}</table></div>',
        f'<div class="llm-body {NO_MATHS}">The first row as the model sees it; what it is to write is bold:'
        f'<pre class="llm-joined">\n<code>{first}</code></pre></div>',
        warnings,
        label=f"Rows of {data.source}",
    )


def data_text(data: TrainingData) -> str:
    """The same as plain text."""
    lines = [f"{name}: {value}" for name, value in _about(data)]
    lines += ["first row:", "".join(text for text, _ in data.first), *(f"Warning: {line}" for line in data.warnings)]
    return "\n".join(printable(line) for line in lines)


def data_bundle(data: TrainingData) -> dict[str, str]:
    """What a notebook saves."""
    return {"text/html": data_html(data), "text/plain": data_text(data)}


def tried_html(run: TrainingRun, tried: Sequence[TriedOut]) -> str:
    """The card with the base's and the tuned model's answers beside one another.

    Args:
        run: the job.
        tried: the questions that were asked.
    """
    rows = [
        (
            one.kind,
            one.question,
            one.expected,
            _judged(one.before, one.right_before),
            _judged(one.after, one.right_after),
        )
        for one in tried
    ]
    return card(
        head("%llm_finetune", f"{run.name} beside {run.base}", ""),
        table_html(("rows", "question", "expected", f"{run.base} said", f"{run.name} says"), rows),
        foot(_kept_and_learnt(tried)),
        label=f"{run.name} beside {run.base}",
    )


def tried_text(run: TrainingRun, tried: Sequence[TriedOut]) -> str:
    """The same as plain text."""
    lines = [f"{run.name} beside {run.base}"]
    for one in tried:
        lines += [f"{one.kind}: {' '.join(one.question.split())}"]
        lines += [f"  {run.base}: {' '.join(_judged(one.before, one.right_before).split())}"]
        lines += [f"  {run.name}: {' '.join(_judged(one.after, one.right_after).split())}"]
    return "\n".join(printable(line) for line in [*lines, " · ".join(_kept_and_learnt(tried))])


def tried_bundle(run: TrainingRun, tried: Sequence[TriedOut]) -> dict[str, str]:
    """What a notebook saves."""
    return {"text/html": tried_html(run, tried), "text/plain": tried_text(run, tried)}


def _judged(answer: str, right: bool) -> str:
    return f"{'✓' if right else '✗'} {answer or '(nothing)'}"


def _kept_and_learnt(tried: Sequence[TriedOut]) -> list[str]:
    """How many are right, of each kind; ✓ means that the answer holds the expected words."""
    items = []
    for kind in dict.fromkeys(one.kind for one in tried):
        ones = [one for one in tried if one.kind == kind]
        before, after = sum(one.right_before for one in ones), sum(one.right_after for one in ones)
        items.append(f"{kind}: {before} of {len(ones)} right before, {after} after")
    return [*items, "asked with -t 0 --repetition-penalty 1; ✓ holds the expected words", *_advice(tried)]


def _advice(tried: Sequence[TriedOut]) -> list[str]:
    """What to do where little was learned, or much was forgotten; of long answers, what the ✓ says."""
    rows = [one for one in tried if one.kind != "unrelated"]
    own = [one for one in rows if not one.too_long]  # of the others nobody knows how they would have gone on
    others = [one for one in tried if one.kind == "unrelated" and one.right_before]
    kept = sum(one.right_after for one in others)
    said = []
    if len(own) < len(rows):
        longer = len(rows) - len(own)
        said.append(
            f"{longer} of the rows {'expects' if longer == 1 else 'expect'} more than was asked for: there ✓ "
            "means that the answer begins as expected"
        )
    if own and not any(one.right_after for one in rows):
        short = " with short answers" if len(own) < len(rows) else ""
        guessed = "; held-out rows with facts of their own cannot be guessed" if own[0].kind == "held out" else ""
        said.append(f"none of the rows{short} is known yet: take more --epochs{guessed}")
    if others and 2 * kept <= len(others):
        said.append("it has forgotten what its base knew: take fewer --epochs, a smaller --lr, or more rows")
    return said


def figures(run: TrainingRun) -> list[str]:
    """A job in short pieces: steps, epoch, loss, rate, speed, time left, memory.

    Args:
        run: the job as it stands.
    """
    last = _last_step(run)
    items = [f"step {run.step} of {run.total}"] if run.total else []
    if last is None:
        phase = next((event.text for event in reversed(run.events) if event.kind == "phase"), "starting")
        return [*items, phase] if run.state == "running" else items
    items.append(f"epoch {last.epoch:.2f}")
    items.append(f"loss {_number(last.loss or 0.0)}")
    if run.valid_losses:
        items.append(f"validation {_number(run.valid_losses[-1][1])}")
    if run.state == "running" and last.learning_rate is not None:
        items.append(f"rate {_rate(last.learning_rate)}")
    speed = _tokens_per_second(run)
    items += [f"{speed:.0f} tok/s"] if speed else []
    left = _seconds_left(run)
    if run.state == "running" and left is not None:
        items.append(f"{duration(left)} left")
    elif run.state != "running" and len(run.events) > 1:
        items.append(duration(_trained_for(run)))
    return [*items, f"{last.memory / 1e9:.1f} GB"] if last.memory else items


def loss_curve(run: TrainingRun) -> str:
    """The losses as an inline SVG: raw, smoothed, and of the validation rows. Empty below two steps.

    Args:
        run: the job as it stands.
    """
    losses, valid = run.losses, run.valid_losses
    if len(losses) < 2:
        return ""
    top = max(loss for _, loss in (*losses, *valid) if math.isfinite(loss)) if _finite(losses) else 1.0
    last = _last_drawn(run)
    lines = [
        _line(losses, last, top, "stroke-opacity:.35"),
        _line(_smoothed(losses), last, top, "stroke:var(--jp-brand-color1,#1976d2);stroke-width:2"),
        _line(valid, last, top, "stroke:var(--jp-warn-color1,#e65100);stroke-width:2;stroke-dasharray:5 3"),
    ]
    described = (
        f"Loss from {_number(losses[0][1])} at step {losses[0][0]} to {_number(losses[-1][1])} at step {losses[-1][0]}"
    )
    legend = "loss of each step, pale; smoothed" + ("; validation, dashed" if valid else "")
    return (
        f'<div class="llm-strip"><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" width="100%" height="{_HEIGHT}" '
        f'preserveAspectRatio="none" style="color:inherit"><title>{escape(described)}</title>'
        f"{_axes(last, top)}{''.join(lines)}</svg><div>{escape(legend)}</div></div>"
    )


def _about(data: TrainingData) -> list[tuple[str, str]]:
    held = f", {data.valid_rows:,} more held out" if data.valid_rows else ""
    mixed = f", {data.mixed_rows:,} of them from --mix" if data.mixed_rows else ""
    share = f", {data.trained_tokens:,} of them answers" if data.trained_tokens else ""
    about = [
        *([("trained as", ", ".join(data.recipe))] if data.recipe else []),
        ("read as", data.shape),
        ("rows", f"{data.rows:,}{mixed}{held}"),
        ("tokens", f"{data.tokens:,}{share}; the longest row has {data.longest:,}"),
    ]
    if data.general_rows:
        about.append(
            ("against forgetting", f"held to the base on {data.general_rows} everyday texts (--mix none: not)")
        )
    if data.dropped:
        about.append(("left out", ", ".join(f"{count} {reason}" for reason, count in data.dropped)))
    return [*about, ("optimizer steps", f"{data.steps:,}"), ("expected", f"about {duration(data.seconds)}")]


def progress_bar(run: TrainingRun) -> str:
    """The steps as a bar; empty before they are known.

    Args:
        run: the job as it stands.
    """
    if not run.total:
        return ""
    share = run.step / run.total
    return (
        f'<div class="llm-strip"><progress max="1" value="{share:.4f}" aria-label="steps done"></progress>'
        f"<div>{run.step} of {run.total} steps</div></div>"
    )


def _headline(run: TrainingRun) -> str:
    return " · ".join([f"{run.name} on {run.base}", run.state, *figures(run)])


def _note(run: TrainingRun) -> str:
    """Why it ended before its last step and how it goes on, or what else there is to say of its end."""
    said = "" if run.text == run.state else run.text
    again = run.state == "stopped" and run.backend == "trl" and run.step
    return "; ".join(filter(None, [said, f"%llm_finetune {run.name} --resume goes on from here" if again else ""]))


def _losses_table(run: TrainingRun) -> str:
    columns = ("step", "loss", "validation") if run.valid_losses else ("step", "loss")
    rows = [(str(step), _number(loss), valid.removeprefix(", validation ")) for step, loss, valid in _shown_losses(run)]
    return table_html(columns, [row[: len(columns)] for row in rows])


def _shown_losses(run: TrainingRun) -> list[tuple[int, float, str]]:
    """A few steps from the first to the last, each with the validation loss that is nearest below it."""
    losses = run.losses
    if not losses:
        return []
    count = min(_ROWS, len(losses))
    places = sorted({round(place * (len(losses) - 1) / max(1, count - 1)) for place in range(count)})
    shown = []
    for step, loss in (losses[place] for place in places):
        before = [valid for at, valid in run.valid_losses if at <= step]
        shown.append((step, loss, f", validation {_number(before[-1])}" if before else ""))
    return shown


def _smoothed(losses: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """An exponential mean without the bias of its beginning, as Adam corrects it (arXiv:1412.6980, section 3)."""
    mean, weight, smooth = 0.0, 0.0, []
    for step, loss in losses:
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        weight = _SMOOTHING * weight + (1 - _SMOOTHING)
        smooth.append((step, mean / weight))
    return smooth


def _last_drawn(run: TrainingRun) -> int:
    """The last step of the curve's axis. While a job runs it doubles when it is reached, so that the curve is never
    a sliver at the left and does not shift with every step.
    """
    last = run.losses[-1][0]
    if run.state != "running":
        return max(1, last)
    room: int = 2 ** math.ceil(math.log2(max(_LEAST_DRAWN, last)))
    return max(last, min(run.total, room) if run.total else room)


def _line(points: Sequence[tuple[int, float]], last: int, top: float, style: str) -> str:
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    every = max(1, math.ceil(len(finite) / _MOST_POINTS))
    kept = [*finite[::every], *([finite[-1]] if finite and (len(finite) - 1) % every else [])]
    if len(kept) < 2:
        return ""
    places = " ".join(f"{_x(step, last):.1f},{_y(value, top):.1f}" for step, value in kept)
    drawn = f'fill="none" stroke="currentColor" vector-effect="non-scaling-stroke" style="{style}"'
    return f'<polyline points="{places}" {drawn}/>'


def _axes(last: int, top: float) -> str:
    texts = [(_LEFT - 4, _y(top, top) + 8, "end", _number(top)), (_LEFT - 4, _y(0, top), "end", "0")]
    texts += [(_LEFT, _HEIGHT - 6, "start", "step 0"), (_WIDTH - _RIGHT, _HEIGHT - 6, "end", str(last))]
    drawn = "".join(
        f'<text x="{x}" y="{y:.0f}" text-anchor="{side}" font-size="11" fill="currentColor">{escape(text)}</text>'
        for x, y, side, text in texts
    )
    corner = f"{_LEFT},{_TOP} {_LEFT},{_HEIGHT - _BOTTOM} {_WIDTH - _RIGHT},{_HEIGHT - _BOTTOM}"
    return f'<polyline points="{corner}" fill="none" stroke="currentColor" stroke-opacity=".4"/>{drawn}'


def _x(step: float, last: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / last


def _y(loss: float, top: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - min(loss, top) / (top or 1.0))


def _finite(losses: Sequence[tuple[int, float]]) -> bool:
    return any(math.isfinite(loss) for _, loss in losses)


def _last_step(run: TrainingRun) -> TrainingEvent | None:
    return next((event for event in reversed(run.events) if event.kind == "step"), None)


def _begin(run: TrainingRun) -> TrainingEvent:
    """Where the latest process began; the figures of speed are its own."""
    return next((event for event in reversed(run.events) if event.kind == "begin"), run.events[0])


def _trained_for(run: TrainingRun) -> float:
    """Seconds from the beginning of the training to its end, of each of its processes."""
    total, began = 0.0, 0.0
    for event, following in zip(run.events, (*run.events[1:], None), strict=True):
        began = event.time if event.kind == "begin" else began
        if began and (following is None or following.kind == "start"):
            total, began = total + event.time - began, 0.0
    return total


def _tokens_per_second(run: TrainingRun) -> float:
    last, begin = _last_step(run), _begin(run)
    if last is None or last.time <= begin.time or last.step <= begin.step:
        return 0.0
    return last.tokens / (last.time - begin.time)


def _seconds_left(run: TrainingRun) -> float | None:
    last, begin = _last_step(run), _begin(run)
    if last is None or last.step <= begin.step:
        return None
    return (last.time - begin.time) / (last.step - begin.step) * (run.total - last.step)


def _rate(rate: float) -> str:
    """Two figures, without an exponent: ``0.00092``."""
    return f"{float(f'{rate:.2g}'):.8f}".rstrip("0").rstrip(".")


def _number(loss: float) -> str:
    return f"{loss:.3g}" if math.isfinite(loss) else "not a number"
