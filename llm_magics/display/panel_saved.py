"""A panel as a page without widgets: what the notebook keeps of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import card
from .markdown import NO_MATHS, escape, printable
from .panel_state import METHODS, PanelState, Shown
from .tables import table_html

TITLE = "%llm_panel"
_BEGIN = 60  # characters of a prompt above its answer

# Where a panel is open, its saved form below it is hidden. Where the notebook was opened again and there is no such
# panel, JupyterLab puts an error into its place, and that is hidden instead.
_PLACES = (
    ".jp-OutputArea-child:has(.llm-panel-live)+.jp-OutputArea-child:has(.llm-panel-saved){display:none}"
    ".jp-OutputArea-child:not(:has(.llm-panel-live)):has(+.jp-OutputArea-child .llm-panel-saved){display:none}"
)

_LABELS = {
    "system": "system",
    "instruction": "instruction",
    "examples": "examples",
    "examples_from": "examples from",
    "k": "k",
    "select": "select",
    "choices": "choices",
    "strategy": "strategy",
    "votes": "votes",
    "knowledge_base": "documents",
    "passages": "k",
    "prompt": "prompt",
    "temperature": "temperature",
    "max_new_tokens": "max new tokens",
    "seed": "seed",
}
_ONLY = {
    "fewshot": ("instruction", "examples", "examples_from", "k", "select", "choices"),
    "cot": ("strategy", "votes"),
    "rag": ("knowledge_base", "passages"),
}


def saved_bundle(state: PanelState, model: str, cell: str, answers: Sequence[Shown]) -> dict[str, str]:
    """The saved form of a panel.

    Args:
        state: what the fields hold.
        model: name of the model that answers.
        cell: the magic cell that asks the same.
        answers: the last answers, the latest first.
    """
    method = f"{state.method} · {METHODS[state.method]}"
    shown = "".join(
        f'<div class="llm-panel-answer">{caption(one.cell)}{one.bundle["text/html"]}</div>' for one in answers
    )
    page = card.card(
        card.head(TITLE, model, method),
        table_html(("field", "value"), _rows(state)),
        f'<div class="llm-body {NO_MATHS}"><pre class="llm-wrap">\n{escape(cell)}</pre></div>',
        f'<div class="llm-panel-answers">{shown}</div>' if shown else "",
        label=f"{TITLE}, {method}",
    )
    page = f'<style>{_PLACES}</style><div class="llm-panel-saved">{page}</div>'
    text = "\n\n".join([printable(cell), *(f"{printable(one.cell)}\n\n{one.bundle['text/plain']}" for one in answers)])
    return {"text/html": page, "text/plain": f"{TITLE}\n\n{text}"}


def show_unused(shell: Any) -> None:
    """Say that a panel has no fields where nobody can use them.

    Args:
        shell: the IPython shell, with a kernel.
    """
    text = "a panel is for trying by hand: open this notebook in JupyterLab and run this cell there"
    page = card.card(card.head(TITLE, "", ""), note(text), label=TITLE)
    shell.display_pub.publish({"text/html": page, "text/plain": f"{TITLE}: {text}"}, {})


def caption(cell: str) -> str:
    """What stands above an answer: the cell that gave it, folded to its first line and the beginning of the rest.

    Args:
        cell: the magic cell.
    """
    line, _, body = cell.partition("\n")
    begin = " ".join(body.split())
    begin = begin if len(begin) <= _BEGIN else begin[: _BEGIN - 1] + "…"
    first = f'<span class="llm-panel-line">{escape(line)}</span>{card.SEPARATOR}<span>{escape(begin)}</span>'
    return (
        f'<details class="llm-panel-caption {NO_MATHS}"><summary>{first}</summary>'
        f'<pre class="llm-wrap">\n{escape(cell)}</pre></details>'
    )


def note(text: str, kind: str = "") -> str:
    """The line in which a panel tells what happened.

    Args:
        text: any text.
        kind: ``failed`` for a mistake.
    """
    css = " llm-panel-failed" if kind == "failed" else ""
    return f'<div class="llm-line{css} {NO_MATHS}">{escape(text)}</div>' if text else ""


def _rows(state: PanelState) -> list[tuple[object, ...]]:
    others = {name for method, names in _ONLY.items() if method != state.method for name in names}
    values = [(label, getattr(state, name)) for name, label in _LABELS.items() if name not in others]
    return [(label, str(value)) for label, value in values if value not in ("", None)]
