"""Chat templates: the Jinja dialect that Hugging Face tokenizers render, without a tokenizer.

The dialect is documented with transformers (https://huggingface.co/docs/transformers/chat_templating_writing):
blocks are trimmed, ``break`` and ``continue`` work, ``tojson`` does not escape HTML, and there are
``raise_exception`` and ``strftime_now``. Templates come with models of unknown authors, so they run in Jinja's
sandbox and see nothing but strings.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import MissingPackageError, ModelError
from ..values.messages import Message
from ..values.models import ModelInfo


def compiled(template: str) -> Callable[..., str]:
    """A function from the template's variables (``messages``, ``bos_token`` …) to the text.

    Args:
        template: the Jinja source.

    Raises:
        ModelError: it is no Jinja template.
        MissingPackageError: jinja2 is not installed.
    """
    try:
        from jinja2 import TemplateError, nodes
        from jinja2.ext import Extension, loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise MissingPackageError("jinja2", "llamacpp") from error

    class Generation(Extension):
        """``{% generation %}`` marks what a model wrote, for training; the text is the same without it."""

        tags = {"generation"}  # noqa: RUF012  (as Jinja's own extensions have it)

        def parse(self, parser: Any) -> Any:
            """The block's content alone."""
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def to_json(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    try:
        return environment.from_string(template).render
    except TemplateError as error:
        raise ModelError(f"the chat template cannot be read: {error}", "Give another with --chat-template") from error


def text_of(messages: Sequence[Message], apply: Callable[[list[dict[str, str]]], str]) -> str:
    """The exact text of a conversation.

    Args:
        messages: the turns.
        apply: the chat template, on turns in the form of ``Message.as_dict``.

    Raises:
        ModelError: the template refuses these messages.
    """
    from jinja2 import TemplateError

    try:
        return apply([message.as_dict() for message in messages])
    except TemplateError as error:
        if messages[0].role != "system":
            raise ModelError(f"the chat template refuses this conversation: {error}") from error
        # Some templates (Gemma's, Mistral's first) have no system role: it then opens the first turn.
        first = Message(messages[1].role, f"{messages[0].content}\n\n{messages[1].content}")
        return apply([message.as_dict() for message in (first, *messages[2:])])


def no_template(info: ModelInfo) -> ModelError:
    """The error of a base model that is asked to chat."""
    return ModelError(
        f"{info.name} has no chat template: it is a base model",
        f"Type %llm_load {info.source} --chat-template guanaco, or llama-2, chatml, zephyr, alpaca",
    )
