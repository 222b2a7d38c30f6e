"""The card that an answer is shown on: header, reasoning, body, bars, sources, footer, as HTML and as plain text.

Pure functions from values to text. The HTML reads without its style sheet too, since viewers of
notebooks that are not trusted drop it: separators stand in the text and are hidden by the sheet.
Everything from outside passes through ``markdown.render`` or ``markdown.escape``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from ..citations import named
from ..values.answers import Answer, Usage
from ..values.asking import GenerationOptions
from . import sheet
from .markdown import NO_MATHS, Cited, escape, highlight, printable, render, render_text
from .sources import anchors, new_key, sources_html, sources_text

_EVIDENCE = {"model": "model", "calibrated": "calibrated model", "examples": "examples"}
_NO_MAJORITY = "no answer has a majority, the first of the best is shown"
SEPARATOR = '<span class="llm-d"> · </span>'


def style() -> str:
    """The whole style sheet as a ``<style>`` element."""
    return f"<style>{sheet.whole()}</style>"


def card(head: str, *parts: str, label: str) -> str:
    """A whole card with the part of the style sheet that it uses.

    Args:
        head: what ``head`` gave.
        parts: HTML below it; empty ones are left out.
        label: what a screen reader says for the card; any text.
    """
    inner = "".join(part for part in parts if part)
    page = f'<div class="llm-card {NO_MATHS}" role="group" aria-label="{escape(label)}">{head}{inner}</div>'
    return f"<style>{sheet.used_by(page)}</style>{page}"


def head(title: str, subtitle: str, state: str, kind: str = "") -> str:
    """A card's header: what it is, of what, and how it stands.

    Args:
        title: the magic's name, or a table's title.
        subtitle: the model's name; may be empty.
        state: the text of the pill; empty for none.
        kind: ``running``, ``warn`` or ``failed`` for a coloured pill.
    """
    pieces = [f'<span class="llm-magic">{escape(title)}</span>']
    if subtitle:
        pieces.append(f'<span class="llm-model">{escape(subtitle)}</span>')
    if state:
        pieces.append(f'<span class="llm-pill{" llm-pill-" + kind if kind else ""}">{escape(state)}</span>')
    return f'<div class="llm-head {NO_MATHS}">{SEPARATOR.join(pieces)}</div>'


def foot(items: Iterable[str]) -> str:
    """A card's footer.

    Args:
        items: plain text pieces; the figures in them are emphasised.
    """
    return _items("llm-foot", items)


def line(items: Iterable[str]) -> str:
    """A line of figures in a card.

    Args:
        items: as for ``foot``.
    """
    return _items("llm-line", items)


def costs(usage: Usage, options: GenerationOptions | None = None) -> list[str]:
    """What an answer cost, in words.

    Args:
        usage: tokens and seconds.
        options: the options in force; with sampling on, the seed is told, which repeats the answer.
    """
    written = f" + {usage.new_tokens} new" if usage.new_tokens else ""  # choices are weighed, not written
    known = f" ({usage.cached_tokens} cached)" if usage.cached_tokens else ""
    items = [f"{usage.prompt_tokens} prompt{known}{written} tokens"]
    if usage.tokens_per_second:
        items.append(f"{usage.tokens_per_second:.1f} tok/s")
    if usage.seconds_to_first_token:
        items.append(f"first token {usage.seconds_to_first_token:.2f} s")
    if usage.seconds:
        items.append(f"{usage.seconds:.{1 if usage.seconds >= 0.05 else 2}f} s")
    if options and not options.greedy and options.seed is not None:
        items.append(f"seed {options.seed}")
    return items


def state_of(answer: Answer, *, failed: bool = False) -> tuple[str, str]:
    """The pill of a finished answer: its text, and its kind as ``head`` takes it.

    Args:
        answer: what is shown.
        failed: whether the cell ended in an error although there is an answer.
    """
    if failed:
        return "failed", "failed"
    if not asked(answer):
        return "not asked", ""
    if answer.stop_reason == "stopped":
        return "stopped", "warn"
    if answer.stop_reason == "length":
        return f"cut at {answer.usage.new_tokens} tokens", "warn"  # by --max-new-tokens or by the context
    if answer.stop_reason == "loop":
        return "ended: it repeats itself", "warn"
    if _tied(answer):
        return "no majority", "warn"
    return ("done", "") if answer.parsed else ("no final answer", "warn")


def _tied(answer: Answer) -> bool:
    """Whether several final answers have as many votes: the one shown is then only the first of them."""
    return len(answer.votes) > 1 and answer.votes[0].count == answer.votes[1].count


def asked(answer: Answer) -> bool:
    """Whether a model was asked: where nothing fits a question of ``%%rag``, none is."""
    return bool(answer.model) or answer.method != "rag"


def answer_html(answer: Answer, *, failed: bool = False) -> str:
    """The card of an answer.

    Args:
        answer: what is shown.
        failed: whether the cell ended in an error although there is an answer.
    """
    state, kind = state_of(answer, failed=failed)
    magic = f"%%{answer.method}"
    key = new_key() if answer.sources else ""
    cited = anchors(answer.sources, key)
    return card(
        head(magic, answer.model, state, kind),
        reasoning(answer, cited),
        body(answer, cited)
        if answer.text
        else f'<div class="llm-none" role="note">{without_text(answer, failed=failed)}</div>',
        _quoted_html(answer, cited),
        _bars(
            f"Votes: {_NO_MAJORITY}" if _tied(answer) else "Votes",
            [(name, share, [figure]) for name, share, figure in _counted(answer)],
        ),
        _probabilities(answer),
        sources_html(answer.sources, key),
        foot(costs(answer.usage, answer.options) if asked(answer) else []),
        label=f"{magic} answer from {answer.model}, {state}" if answer.model else f"{magic} answer, {state}",
    )


def answer_text(answer: Answer, *, failed: bool = False) -> str:
    """The answer for places that take plain text only: its text, the votes in a line of their own, the sources.

    Args:
        answer: what is shown.
        failed: whether the cell ended in an error although there is an answer.
    """
    text = said(answer, failed=failed)
    return f"{text.rstrip()}\n\n{sources_text(answer.sources)}" if answer.sources else text


def said(answer: Answer, *, failed: bool = False, reasoning: bool = True) -> str:
    """The plain text of an answer without its sources.

    Args:
        answer: what is shown.
        failed: whether the cell ended in an error although there is an answer.
        reasoning: whether the reasoning stands in for a final answer that was not found.
    """
    lines = [printable(answer.text)] if answer.text else [without_text(answer, failed=failed)]
    if reasoning and not answer.parsed:
        lines.append(printable(answer.reasoning))
    lines.append(f"({quoted})" if (quoted := _quoted(answer)) else "")
    votes = ", ".join(f"{printable(name)}: {figure}" for name, _, figure in _counted(answer))
    lines.append(f"({_NO_MAJORITY + '; ' if _tied(answer) else ''}{votes})" if votes else "")
    chances = sorted(answer.probabilities.items(), key=lambda item: -item[1])
    lines.append("(" + ", ".join(f"{printable(name)}: {share:.1%}" for name, share in chances) + ")" if chances else "")
    lines.append(f"({printable(_made_of(answer))})" if len(answer.evidence) > 1 else "")
    return "\n".join(line for line in lines if line)


def _made_of(answer: Answer) -> str:
    """What the probabilities were made of and what each part of it says by itself, in one sentence."""
    best = {name: max(shares.items(), key=lambda item: item[1]) for name, shares in answer.evidence.items()}
    says = {name: f"{choice} at {share:.1%}" for name, (choice, share) in best.items()}
    parts = [f"the model, its leaning taken out, says {says['calibrated']}"] if "calibrated" in says else []
    parts = parts or [f"the model says {says['model']}"]
    parts += [f"the nearest examples say {says['examples']}"] if "examples" in says else []
    made = f"joined of two: {', '.join(parts)}" if len(parts) > 1 else parts[0]
    return f"{made}; left as it is, the model says {says['model']}" if "calibrated" in says else made


def _quoted(answer: Answer) -> str:
    """Which sources the answer repeats without naming them."""
    there = named(answer.text, len(answer.sources))
    unnamed = [f"[{number}]" for number in answer.quoted if number not in there]
    return f"quoted from {', '.join(unnamed)}" if unnamed else ""


def _quoted_html(answer: Answer, cited: Cited) -> str:
    said = _quoted(answer)
    return f'<div class="llm-strip llm-note">{render_text(said, cited)}</div>' if said else ""


def without_text(answer: Answer, *, failed: bool = False) -> str:
    """What stands in the place of an answer that has no text."""
    if failed:
        return "It failed before an answer."
    if answer.stop_reason == "stopped":
        return "Stopped before an answer."
    if answer.parsed:
        return "The model gave no text."
    if answer.stop_reason == "length":
        return f"No final answer found: the reasoning was cut at {answer.usage.new_tokens} tokens."
    if answer.stop_reason == "loop":
        return "No final answer found: the reasoning repeats itself."
    return "No final answer found in the reasoning."


def answer_bundle(answer: Answer, *, failed: bool = False) -> dict[str, str]:
    """What a notebook saves. No ``text/markdown``: a viewer that prefers it would run the HTML in it."""
    return {"text/html": answer_html(answer, failed=failed), "text/plain": answer_text(answer, failed=failed)}


def body(answer: Answer, cited: Cited | None = None) -> str:
    """The answer's text as its format asks for.

    Args:
        answer: what is shown.
        cited: the sources that its citations link to.
    """
    if answer.output_format in ("json", "code") and answer.data is not None:
        coloured = highlight(*_code_of(answer))
        return f'<div class="llm-body {NO_MATHS}"><pre>\n<code>{coloured}</code></pre></div>'
    classes = "jp-RenderedHTMLCommon " if answer.output_format == "markdown" else ""
    return f'<div class="llm-body {classes}{NO_MATHS}">{piece(answer.text, answer.output_format, cited)}</div>'


def piece(text: str, format: str, cited: Cited | None = None) -> str:
    """Text of a running or finished answer as HTML.

    Args:
        text: the text, or a part of it that ends where a block or a line does.
        format: ``markdown``, ``text``, ``json`` or ``code``; JSON is shown as code while it runs.
        cited: the sources that citations link to, except in code.
    """
    if format == "markdown":
        return render(text, cited)
    if format == "text":
        return f'<div class="llm-text">{render_text(text, cited)}</div>'
    return f'<pre class="llm-joined">\n<code>{escape(text)}</code></pre>'


def _items(name: str, items: Iterable[str]) -> str:
    pieces = [f"<span>{_figures(item)}</span>" for item in items]
    return f'<div class="{name} {NO_MATHS}">{SEPARATOR.join(pieces)}</div>' if pieces else ""


def _figures(text: str) -> str:
    parts = re.split(r"(?<![\w./-])(\d+(?:[.,]\d+)*)(?![\w/])", text)  # not those of smollm2 or of a path
    return "".join(f"<b>{part}</b>" if place % 2 else escape(part) for place, part in enumerate(parts))


def _code_of(answer: Answer) -> tuple[str, str]:
    """The parsed JSON or the code block in an answer, and the language it is in."""
    if answer.output_format == "json":
        return printable(json.dumps(answer.data, indent=2, ensure_ascii=False, default=_plain_value)), "json"
    named = re.search(r"^ *(?:```|~~~) *([\w+#-]+)", answer.text, re.MULTILINE)
    return printable(str(answer.data)), named[1] if named else "python"  # a notebook's code is mostly Python


def _plain_value(value: object) -> object:
    dump = getattr(value, "model_dump", None)  # a pydantic object, as --schema may make it
    return dump() if callable(dump) else str(value)


def reasoning(answer: Answer, cited: Cited) -> str:
    """The reasoning in a fold, open where no final answer was found; empty where there is none.

    Args:
        answer: what is shown.
        cited: the sources that its citations link to.
    """
    if not answer.reasoning.strip():
        return ""
    unfolded = "" if answer.parsed else " open"
    return (
        f'<details class="llm-fold"{unfolded}><summary>Reasoning</summary>'
        f'<div class="llm-body jp-RenderedHTMLCommon {NO_MATHS}">{render(answer.reasoning, cited)}</div></details>'
    )


def _counted(answer: Answer) -> list[tuple[str, float, str]]:
    """Each final answer with its share of all chains, and last the chains that came to none."""
    voted = sum(vote.count for vote in answer.votes)
    total = max(answer.chains, voted)
    counts = [(vote.answer, vote.count) for vote in answer.votes]
    counts += [("no final answer", total - voted)] if total > voted else []
    return [(name, count / total, f"{count} of {total}") for name, count in counts]


def _probabilities(answer: Answer) -> str:
    ranked = sorted(answer.probabilities.items(), key=lambda item: -item[1])
    apart = answer.evidence if len(answer.evidence) > 1 else {}
    made_of = [name for name in ("calibrated" if "calibrated" in apart else "model", "examples") if name in apart]
    rows = [
        (name, share, [f"{part:.1%}" for part in (share, *(shares[name] for shares in apart.values()))])
        for name, share in ranked
    ]
    title = "Probability of each choice"
    if apart:
        title += f", by {' and '.join(f'the {_EVIDENCE[key]}' for key in made_of)}"
    return _bars(title, rows, ("", "", "in all", *(_EVIDENCE.get(key, key) for key in apart)) if apart else ())


def _bars(title: str, rows: Sequence[tuple[str, float, Sequence[str]]], columns: Sequence[str] = ()) -> str:
    if not rows:
        return ""
    names = "".join(f'<th scope="col">{escape(name)}</th>' if name else "<td></td>" for name in columns)
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        f'<td><progress max="1" value="{share:.4f}" aria-label="{escape(name)}"></progress></td>'
        + "".join(f"<td>{escape(figure)}</td>" for figure in figures)
        + "</tr>"
        for name, share, figures in rows
    )
    heads = f"<thead><tr>{names}</tr></thead>" if names else ""
    return (
        f'<div class="llm-strip"><table class="llm-bars"><caption>{escape(title)}</caption>{heads}'
        f"<tbody>{lines}</tbody></table></div>"
    )
