"""What the known servers have beyond the API that all of them share: their own words for options, and who counts.

A server is known by what it says of its models (``owned_by``), Ollama by its version, and ``transformers serve`` by
its list of paths.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ServerError
from ..values.asking import GenerationOptions
from ..values.messages import Message, Prompt
from .llamacpp import TOP_K, sampling
from .server_address import Address

Ask = Callable[..., Any]
"""One request and its JSON reply: ``Connection.ask``."""

Tokenized = tuple[str, int]
"""The exact text of a prompt, and its length in tokens."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of server.

    Attributes:
        name: what a person calls it; empty for one that is not known.
        words: our options in its words, beside those that every server takes; given the context too.
        tokenize: the exact prompt of a conversation, where the server tells it.
        penalizes: whether it takes a repetition penalty; if not, it ignores one without a word.
        constrains: whether it holds an answer to a JSON schema.
        lists_all: whether a model that is not in its list is not there.
    """

    name: str
    words: Callable[[GenerationOptions, int], dict[str, Any]]
    tokenize: Callable[[Ask, Address, Sequence[Message]], Tokenized] | None = None
    penalizes: bool = True
    constrains: bool = True
    lists_all: bool = True


def _penalty(options: GenerationOptions, context: int) -> dict[str, Any]:
    penalty = options.repetition_penalty
    return {} if penalty == 1 else {"repetition_penalty": penalty}


def _nothing(options: GenerationOptions, context: int) -> dict[str, Any]:
    return {}


def _counted_on_the_way(options: GenerationOptions, context: int) -> dict[str, Any]:
    """vLLM and SGLang send the figures with each event when they are asked to."""
    return {
        **_penalty(options, context),
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }


def _of_llamacpp(options: GenerationOptions, context: int) -> dict[str, Any]:
    return {**sampling(options, context), "timings_per_token": True}


def _of_transformers(options: GenerationOptions, context: int) -> dict[str, Any]:
    """All of ``generate``'s own options: those of the API leave sampling off where the model's folder does not say."""
    config = {
        "do_sample": not options.greedy,
        "max_new_tokens": options.max_new_tokens,
        "repetition_penalty": options.repetition_penalty,
    }
    if not options.greedy:
        config |= {"temperature": options.temperature, "top_p": options.top_p, "top_k": TOP_K}
    return {"generation_config": json.dumps(config)}


def _by_llamacpp(ask: Ask, address: Address, messages: Sequence[Message]) -> Tokenized:
    body = {"model": address.model, "messages": [message.as_dict() for message in messages]}
    text = ask(f"{address.root}/apply-template", body)["prompt"]
    return text, ask(f"{address.url}/chat/completions/input_tokens", body)["input_tokens"]


def _by_vllm(ask: Ask, address: Address, messages: Sequence[Message]) -> Tokenized:
    body = {"model": address.model, "messages": [message.as_dict() for message in messages]}
    tokens = ask(f"{address.root}/tokenize", body)["tokens"]
    return ask(f"{address.root}/detokenize", {"model": address.model, "tokens": tokens})["prompt"], len(tokens)


LLAMACPP = Kind("llama.cpp", _of_llamacpp, _by_llamacpp)
TRANSFORMERS = Kind("transformers serve", _of_transformers, constrains=False, lists_all=False)
OLLAMA = Kind("Ollama", _nothing, penalizes=False)
OTHER = Kind("", _penalty)
_BY_OWNER = {
    "llamacpp": LLAMACPP,
    "vllm": Kind("vLLM", _counted_on_the_way, _by_vllm),
    "sglang": Kind("SGLang", _counted_on_the_way),
}


def kind_of(ask: Ask, address: Address, listed: Sequence[dict[str, Any]]) -> Kind:
    """Which kind a server is.

    Args:
        ask: ``Connection.ask``.
        address: the server.
        listed: its models, as it lists them.
    """
    owners = {str(entry.get("owned_by")) for entry in listed}
    known = next((_BY_OWNER[owner] for owner in owners if owner in _BY_OWNER), None)
    if known is not None:
        return known
    if "version" in _told(ask, f"{address.root}/api/version"):
        return OLLAMA
    paths = _told(ask, f"{address.root}/openapi.json").get("paths") or ()
    return TRANSFORMERS if {"/load_model", "/v1/chat/completions"} <= set(paths) else OTHER


def _told(ask: Ask, url: str) -> dict[str, Any]:
    """What a server tells there; nothing where it does not know the place."""
    try:
        told = ask(url)
    except ServerError:
        return {}
    return told if isinstance(told, dict) else {}


def context_of(ask: Ask, address: Address, kind: Kind, entry: dict[str, Any]) -> int:
    """Tokens of a prompt with its answer, where the server tells; 0 where it does not.

    Args:
        ask: ``Connection.ask``.
        address: the server, and the model there.
        kind: the kind of server.
        entry: the model in the server's list.
    """
    if kind is LLAMACPP:  # the list has what all conversations share
        settings = _told(ask, f"{address.root}/props").get("default_generation_settings")
        return int(settings.get("n_ctx", 0)) if isinstance(settings, dict) else 0
    told = (entry.get(name) for name in ("max_model_len", "context_length", "context_window"))
    return next((value for value in told if isinstance(value, int) and value > 0), 0)


def readable(messages: Sequence[Message]) -> Prompt:
    """A conversation that only the server can put into the model's own form: its turns, and an estimate of its length.

    A token of English is about 4 bytes; a chat template adds about 4 tokens a turn.
    """
    text = "\n".join(f"{message.role}: {message.content}" for message in messages)
    length = sum(len(message.content.encode()) // 4 + 4 for message in messages) + 4
    return Prompt(tuple(messages), text, length, exact=False)
