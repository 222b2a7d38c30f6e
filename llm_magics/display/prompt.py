"""What ``--dry-run`` shows: the exact text that would go to the model, and its length."""

from __future__ import annotations

import html
import re
from typing import Any

from ..messages import Prompt
from .card import card, counted, foot, head
from .formatters import mark_shown
from .markdown import NO_MATHS, printable

# The marks of the chat templates in use: ChatML and Llama 3, DeepSeek, Llama 2, Gemma and T5.
_SPECIAL = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|<\uff5c[^\uff5c<>\n]{1,40}\uff5c>|\[/?(?:INST|SYSTEM_PROMPT)\]|<</?SYS>>"
    r"|</?s>|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn|think)>|</think>"
)


def show_prompt(prompt: Prompt, *, shell: Any) -> None:
    """Show the exact prompt and run nothing.

    Args:
        prompt: the turns and the text after the chat template.
        shell: the IPython shell; one with a kernel gets a card, any other gets printed text.
    """
    if getattr(shell, "kernel", None) is None:
        print(prompt_text(prompt))
    else:
        shell.display_pub.publish({"text/html": prompt_html(prompt), "text/plain": prompt_text(prompt)}, {})
    mark_shown(shell, prompt, above="the prompt above")


def prompt_html(prompt: Prompt) -> str:
    """The card of a prompt, special tokens set off.

    Args:
        prompt: the turns and the text after the chat template.
    """
    turns, length = counted(len(prompt.messages), "message"), counted(prompt.token_count, "token")
    # HTML drops a line break right after <pre>, so one is put there to be dropped.
    block = f'<div class="llm-body {NO_MATHS}"><pre class="llm-wrap">\n{_marked(prompt.text)}</pre></div>'
    footer = foot([turns, counted(len(prompt.text), "character"), "nothing was run"])
    return card(head("exact prompt", "", length), block, footer, label=f"exact prompt, {length}")


def prompt_text(prompt: Prompt) -> str:
    """The prompt as plain text, below its length.

    Args:
        prompt: the turns and the text after the chat template.
    """
    return f"exact prompt, {counted(prompt.token_count, 'token')}:\n{printable(prompt.text)}"


def _marked(text: str) -> str:
    """Escaped, with special tokens set off."""
    text = printable(text)
    pieces, end = [], 0
    for found in _SPECIAL.finditer(text):
        pieces.append(html.escape(text[end : found.start()]))
        pieces.append(f'<span class="llm-token">{html.escape(found[0])}</span>')
        end = found.end()
    return "".join([*pieces, html.escape(text[end:])])
