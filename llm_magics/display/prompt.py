"""What ``--dry-run`` shows: the exact text that would go to the model, and its length."""

from __future__ import annotations

import html
import re
from typing import Any

from ..values.messages import Prompt
from .card import card, foot, head
from .formatters import mark_shown
from .markdown import NO_MATHS, printable
from .output import show_bundle
from .words import counted

# The marks of the chat templates in use: ChatML and Llama 3, DeepSeek, Llama 2, Gemma and T5.
_SPECIAL = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|<\uff5c[^\uff5c<>\n]{1,40}\uff5c>|\[/?(?:INST|SYSTEM_PROMPT)\]|<</?SYS>>"
    r"|</?s>|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn|think)>|</think>"
)


def show_prompt(prompt: Prompt, *, shell: Any, schema: str = "") -> None:
    """Show the exact prompt and run nothing.

    Args:
        prompt: the turns and the text after the chat template.
        shell: the IPython shell; one with a kernel gets a card, any other gets printed text.
        schema: the JSON schema that the answer follows; empty for none.
    """
    show_bundle({"text/html": prompt_html(prompt, schema), "text/plain": prompt_text(prompt, schema)}, shell=shell)
    mark_shown(shell, prompt, above="the prompt above")


def prompt_html(prompt: Prompt, schema: str = "") -> str:
    """The card of a prompt, special tokens set off.

    Args:
        prompt: the turns and the text after the chat template.
        schema: the JSON schema that the answer follows; empty for none.
    """
    turns, title, length = counted(len(prompt.messages), "message"), _title(prompt), _length(prompt)
    # HTML drops a line break right after <pre>, so one is put there to be dropped.
    block = f'<div class="llm-body {NO_MATHS}"><pre class="llm-wrap">\n{_marked(prompt.text)}</pre></div>'
    said = [_schema_line(schema)] if schema else []
    footer = foot([turns, counted(len(prompt.text), "character"), *_note(prompt), *said, "nothing was run"])
    return card(head(title, "", length), block, footer, label=f"{title}, {length}")


def prompt_text(prompt: Prompt, schema: str = "") -> str:
    """The prompt as plain text, below its length.

    Args:
        prompt: the turns and the text after the chat template.
        schema: the JSON schema that the answer follows; empty for none.
    """
    text = f"{', '.join([_title(prompt), _length(prompt), *_note(prompt)])}:\n{printable(prompt.text)}"
    return f"{text}\n\n{_schema_line(schema)}" if schema else text


def _title(prompt: Prompt) -> str:
    return "exact prompt" if prompt.exact else "prompt"


def _length(prompt: Prompt) -> str:
    length = counted(prompt.token_count, "token")
    return length if prompt.exact else f"about {length}"


def _note(prompt: Prompt) -> list[str]:
    return [] if prompt.exact else ["the server makes the exact text and does not tell it"]


def _schema_line(schema: str) -> str:
    """The schema's beginning and its size."""
    begin = printable(schema if len(schema) <= 80 else schema[:77] + "...")
    return f"the answer follows a JSON schema of {counted(len(schema), 'character')}: {begin}"


def _marked(text: str) -> str:
    """Escaped, with special tokens set off."""
    text = printable(text)
    pieces, end = [], 0
    for found in _SPECIAL.finditer(text):
        pieces.append(html.escape(text[end : found.start()]))
        pieces.append(f'<span class="llm-token">{html.escape(found[0])}</span>')
        end = found.end()
    return "".join([*pieces, html.escape(text[end:])])
