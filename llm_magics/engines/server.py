"""Models on a server that speaks OpenAI's API: vLLM, SGLang, llama.cpp, Ollama, TGI, ``transformers serve`` and others.

``prepare`` asks the server whether it has the model, ``load`` opens the connection, ``ServerEngine`` answers. The
server puts the messages into the model's own form; where it tells that form, ``render`` shows it. The API is OpenAI's
chat completions (https://platform.openai.com/docs/api-reference/chat-streaming), streamed.
"""

from __future__ import annotations

import contextlib
import json
import queue
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import (
    AnswerBrokenError,
    InputError,
    LLMMagicsError,
    ModelNotFoundError,
    ServerError,
    did_you_mean,
)
from ..settings import LLMMagics
from ..values.answers import Answer, Chunk, StopReason, Usage
from ..values.asking import GenerationOptions
from ..values.messages import Message, Prompt
from ..values.models import ModelInfo, ModelRequest
from .base import room_for_answer
from .gguf_header import Header
from .llamacpp import LlamaCppEngine
from .resolve import Source
from .server_address import Address, key_for, parse
from .server_http import Connection, Event, choice_of, delta_of, printable
from .server_kinds import LLAMACPP, Kind, context_of, kind_of, readable
from .stop_texts import StopTexts

_CONTEXT = 4096  # tokens, where the server does not tell; Ollama's own default on most machines
_REASONS: dict[str, StopReason] = {"stop": "end", "eos_token": "end", "tool_calls": "end", "length": "length"}
_MAY_BE_LEFT_OUT = ("repetition_penalty", "seed", "stream_options", "top_p", "temperature")
_REFUSAL = re.compile(
    r"unexpected|unsupported|unknown|unrecogni[sz]ed|extra|(?:not|n't) (?:\w+ )?(?:support|permit|allow)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A server that has the model.

    Attributes:
        source: the address.
        address: the same, in its parts.
        kind: the kind of server.
        context: the longest prompt with its answer, in tokens.
        settings: how long to wait for it, and how much to ask at once.
        say: told in one line what was decided.
    """

    source: Source
    address: Address
    kind: Kind
    context: int
    settings: LLMMagics
    say: Callable[[str], None]


def prepare(source: Source, request: ModelRequest, *, settings: LLMMagics, say: Callable[[str], None]) -> Prepared:
    """Ask the server whether it has the model, and what it is.

    Args:
        source: the address, from ``resolve``.
        request: how to open it.
        settings: how long to wait for it, and how much to ask at once.
        say: told in one line what was decided.

    Raises:
        InputError: an option that the server decides.
        ModelNotFoundError: the server has no such model; those that it has are named.
        ServerError: it cannot be reached, wants a key, or is no such server.
        MissingPackageError: httpx2 or tenacity is not installed.
    """
    _refuse_other_engines_options(request)
    address = parse(source.location)
    with contextlib.closing(Connection(address, key_for(address), settings)) as connection:
        listed = _models(connection, address)
        kind = kind_of(connection.ask, address, listed)
        entry = _entry(address, listed, kind)
        told = context_of(connection.ask, address, kind, entry)
    if told and request.context > told:
        raise InputError(f"--context {request.context} is more than the server's {told}", f"Take at most {told}")
    if not told and not request.context:
        say(f"{address.host} does not tell its context length: {_CONTEXT} tokens are taken, --context N says another")
    return Prepared(source, address, kind, request.context or told or _CONTEXT, settings, say)


def load(prepared: Prepared) -> ServerEngine:
    """Open the connection.

    Args:
        prepared: from ``prepare``.
    """
    begin = time.perf_counter()
    address = prepared.address
    connection = Connection(address, key_for(address), prepared.settings)
    info = ModelInfo(
        name=prepared.source.name,
        source=str(address),
        engine="server",
        device=address.host,
        dtype="",
        quantization="none",
        parameters=0,
        memory=0,
        context=prepared.context,
        seconds=time.perf_counter() - begin,
    )
    engine = LlamaCppServerEngine if prepared.kind is LLAMACPP else ServerEngine
    return engine(prepared, connection, info)


class ServerEngine:
    """A model on a server.

    Args:
        prepared: the server.
        connection: the line to it.
        info: its figures; ``context`` bounds prompt plus answer.
    """

    def __init__(self, prepared: Prepared, connection: Connection, info: ModelInfo) -> None:
        self._address, self._kind = prepared.address, prepared.kind
        self._settings, self._say = prepared.settings, prepared.say
        self._connection = connection
        self._info = info
        self._told: set[str] = set()
        self._left_out: set[str] = set()
        self._renamed: dict[str, str] = {}
        self._tokenize = prepared.kind.tokenize

    def info(self) -> ModelInfo:
        """The model in the figures that the server tells."""
        return self._info

    def render(self, messages: Sequence[Message]) -> Prompt:
        """The prompt as the server makes it, and its length in tokens, where the server tells both.

        Where it does not, the prompt's ``exact`` is False.

        Raises:
            ServerError: the server cannot be reached, or refuses these messages.
        """
        if self._tokenize is not None:
            try:
                text, length = self._tokenize(self._connection.ask, self._address, messages)
                return Prompt(tuple(messages), text, length)
            except (KeyError, TypeError):  # a gateway that has something else there
                self._tokenize = None
            except ServerError as error:
                if error.may_pass:
                    raise
                if error.status not in (400, 422):  # a gateway that lets the API through and nothing else
                    self._tokenize = None
        return readable(messages)

    def stream(self, prompt: Prompt, options: GenerationOptions, stop: threading.Event) -> Iterator[Chunk]:
        """Answer, piece by piece. See ``Engine.stream``.

        Raises:
            ServerError: no answer.
            AnswerBrokenError: the answer ended in the middle; carries what came of it.
        """
        running = _Running(prompt, options)
        found: queue.SimpleQueue[Chunk | None] = queue.SimpleQueue()

        def take(event: Event) -> bool:
            chunk = running.take(event)
            if chunk is not None:
                found.put(chunk)
            return running.enough

        def waiting(line: str) -> None:
            found.put(Chunk("", running.usage(), status=line))

        request, usage = self._request(prompt, options), running.usage()
        try:
            for chunk in self._items(lambda: self._complete(request, take, waiting), found, stop):
                usage = chunk.usage
                yield chunk
        except AnswerBrokenError as error:
            error.answer = running.partial()
            raise
        if stop.is_set():
            yield Chunk("", usage, "stopped")
        elif running.reason is None:
            raise running.broken(f"{self._address.host} ended the answer for a reason that is not known")
        else:
            yield Chunk(running.rest(), running.usage(), running.reason)

    def stream_batch(
        self, prompts: Sequence[Prompt], options: GenerationOptions, stop: threading.Event
    ) -> Iterator[tuple[int, Chunk | LLMMagicsError]]:
        """Answer several prompts, ``server_concurrency`` of them at once. See ``BatchEngine.stream_batch``."""
        import anyio

        found: queue.SimpleQueue[tuple[int, Chunk | LLMMagicsError] | None] = queue.SimpleQueue()
        numbers = iter(range(len(prompts)))  # one event loop takes from it, so that nothing is taken twice

        async def work() -> None:
            for number in numbers:
                found.put((number, await self._whole(prompts[number], options)))

        async def run() -> None:
            async with anyio.create_task_group() as group:
                for _ in range(min(self._settings.server_concurrency, len(prompts))):
                    group.start_soon(work)

        yield from self._items(run, found, stop)

    async def _whole(self, prompt: Prompt, options: GenerationOptions) -> Chunk | LLMMagicsError:
        running = _Running(prompt, options)

        def take(event: Event) -> bool:
            running.take(event)
            return running.enough

        try:
            await self._complete(self._request(prompt, options), take, lambda line: None)
            if running.reason is None:
                return running.broken(f"{self._address.host} ended the answer for a reason that is not known")
        except AnswerBrokenError as error:
            error.answer = running.partial()
            return error
        except LLMMagicsError as error:
            return error
        return Chunk(running.whole(), running.usage(), running.reason)

    async def _complete(self, request: Event, take: Callable[[Event], bool], waiting: Callable[[str], None]) -> None:
        """One streamed answer; options that the server refuses are left out, and it is asked again."""
        url = f"{self._address.url}/chat/completions"
        while True:
            taken = {name: value for name, value in request.items() if name not in self._left_out}
            sent = {self._renamed.get(name, name): value for name, value in taken.items()}
            try:
                return await self._connection.stream(url, sent, take, waiting)
            except ServerError as error:
                if not self._learns(sent, error):
                    raise

    def _learns(self, sent: Event, error: ServerError) -> bool:
        """Whether an error says how the server wants to be asked; from then on it is."""
        if error.status not in (400, 422) or not _REFUSAL.search(error.said):
            return False
        if "max_tokens" in sent and "max_completion_tokens" in error.said:  # OpenAI's newer name
            self._renamed["max_tokens"] = "max_completion_tokens"
            return True
        named = {name for name in _MAY_BE_LEFT_OUT if name in sent and re.search(rf"\b{name}\b", error.said)}
        self._left_out |= named
        return bool(named)

    def _items(self, run: Any, found: queue.SimpleQueue[Any], stop: threading.Event) -> Generator[Any]:
        """What the connection finds; in between a person is told what the server does not take."""
        with contextlib.closing(self._connection.items(run, found, stop)) as items:
            for item in items:
                self._tell()
                yield item
        self._tell()

    def _tell(self) -> None:
        names = sorted(self._left_out - self._told - {"stream_options"})
        self._told |= set(names)
        for name in names:
            self._say(f"{self._kind.name or self._address.host} takes no --{name.replace('_', '-')}: it is left out")

    def _request(self, prompt: Prompt, options: GenerationOptions) -> Event:
        """Stop texts are cut here: whether one was found, a server tells in a way of its own or not at all."""
        room = room_for_answer(prompt.token_count, self._info)
        request: Event = {
            "model": self._address.model,
            "messages": [message.as_dict() for message in prompt.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": min(room, options.max_new_tokens),
            "temperature": options.temperature,
            "top_p": options.top_p,
        }
        if options.seed is not None:
            request["seed"] = options.seed
        if options.repetition_penalty != 1 and not self._kind.penalizes:
            self._left_out.add("repetition_penalty")
        if options.schema:
            if not self._kind.constrains:
                raise InputError(f"{self._kind.name} holds no answer to a schema", "Leave --schema out")
            schema = {"name": "answer", "schema": json.loads(options.schema), "strict": True}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        return {**request, **self._kind.words(options, self._info.context)}

    def close(self) -> None:
        """Close the connection; the model stays on its server."""
        self._connection.close()


class LlamaCppServerEngine(ServerEngine):
    """A model on llama.cpp's server, which can also say how probable a token is."""

    def score(self, prompt: Prompt, choices: Sequence[str], stop: threading.Event) -> tuple[float, ...]:
        """Probability of each choice as the answer. See ``LlamaCppEngine.score``.

        The one end token that the server tells of counts as the end of a choice.
        """
        line: Any = _LlamaCppLine(self._connection, self._address)  # all that scoring asks of the server in its place
        header = Header(self._info.context, 0, 0, "", "", 0, "", "", "", line.ends())
        return LlamaCppEngine(line, header, self._info, "").score(prompt, choices, stop)


class _LlamaCppLine:
    """What ``LlamaCppEngine`` asks of llama.cpp, over HTTP."""

    def __init__(self, connection: Connection, address: Address) -> None:
        self._connection = connection
        self._address = address

    def ends(self) -> tuple[int, ...]:
        return tuple(self.tokenize(self._connection.ask(f"{self._address.root}/props").get("eos_token", "")))

    def tokenize(self, text: str) -> list[int]:
        body = {"content": text, "add_special": False, "parse_special": True}
        return list(self._connection.ask(f"{self._address.root}/tokenize", body)["tokens"])

    def complete(self, request: Event, stop: threading.Event) -> Generator[Event]:
        found: queue.SimpleQueue[Event | None] = queue.SimpleQueue()

        async def run() -> None:
            found.put(await self._connection.reply(f"{self._address.url}/completions", request))

        yield from self._connection.items(run, found, stop)


class _Running:
    """An answer while it comes."""

    def __init__(self, prompt: Prompt, options: GenerationOptions) -> None:
        self._prompt, self._options = prompt, options
        self._begin, self._first, self._seconds = time.perf_counter(), 0.0, 0.0
        self._read, self._count, self._cached = prompt.token_count, 0, 0
        self._counted = False  # by the server; else an event with text counts as a token
        self._cut = StopTexts(options.stop)
        self._thinks = False
        self._pieces: list[str] = []
        self.reason: StopReason | None = None

    @property
    def enough(self) -> bool:
        """Whether nothing more is wanted of the server, though it has not ended."""
        return self._cut.found

    def take(self, event: Event) -> Chunk | None:
        """The chunk that an event makes; None where there is nothing to show."""
        reasoning, text = delta_of(event)
        self._count_up(event, bool(reasoning or text))
        shown = self._shown(reasoning, text)
        ended = choice_of(event).get("finish_reason")
        if self._cut.found:
            self.reason = "stop"
        elif ended:
            self.reason = _REASONS.get(str(ended))
        self._pieces.append(shown)
        return Chunk(shown, self.usage()) if shown else None

    def _shown(self, reasoning: str, text: str) -> str:
        """Reasoning comes in the form that models without a server write it in."""
        shown = ""
        if reasoning:
            shown += reasoning if self._thinks else f"<think>\n{reasoning}"
            self._thinks = True
        if text and self._thinks:
            shown, self._thinks = f"{shown}\n</think>\n\n", False
        return shown + self._cut.push(text)

    def _count_up(self, event: Event, is_token: bool) -> None:
        usage, timings = event.get("usage"), event.get("timings")
        if isinstance(timings, dict):  # llama.cpp
            self._take_figures(timings.get("predicted_n"), None, timings.get("cache_n"))
        if isinstance(usage, dict):
            details = usage.get("prompt_tokens_details")
            cached = details.get("cached_tokens") if isinstance(details, dict) else None
            self._take_figures(usage.get("completion_tokens"), usage.get("prompt_tokens"), cached)
        self._count += is_token and not self._counted
        self._seconds = time.perf_counter() - self._begin
        if is_token:
            self._first = self._first or self._seconds

    def _take_figures(self, new: Any, read: Any, cached: Any) -> None:
        if isinstance(new, int) and new >= self._count:
            self._count, self._counted = new, True
        if isinstance(read, int) and read > 0:
            self._read = read
        if isinstance(cached, int):
            self._cached = cached

    def usage(self) -> Usage:
        return Usage(self._read, self._count, self._first, self._seconds, self._cached)

    def rest(self) -> str:
        """What was held back, since a stop text could have begun with it."""
        return self._cut.flush()

    def whole(self) -> str:
        """All of the text so far."""
        return "".join(self._pieces) + self.rest()

    def partial(self) -> Answer:
        """What there is of an answer that does not come to its end."""
        usage = self.usage()
        return Answer(self.whole(), prompt=self._prompt, options=self._options, usage=usage, stop_reason="stopped")

    def broken(self, message: str) -> AnswerBrokenError:
        return AnswerBrokenError(message, "Run the cell again", answer=self.partial())


def _models(connection: Connection, address: Address) -> list[dict[str, Any]]:
    """What the server says of its models; nothing where it has no list."""
    try:
        listed = connection.ask(f"{address.url}/models")
    except ServerError as error:
        if error.status in (404, 405, 501):
            return []
        raise
    entries = listed.get("data") if isinstance(listed, dict) else None
    if not isinstance(entries, list):
        raise ServerError(
            f"{address.host} does not speak OpenAI's API at {address.url}",
            "Look at the address: it usually ends with /v1",
        )
    return [entry for entry in entries if isinstance(entry, dict)]


def _entry(address: Address, listed: Sequence[dict[str, Any]], kind: Kind) -> dict[str, Any]:
    """The model in the server's list.

    Raises:
        ModelNotFoundError: it is not there.
    """
    names = [printable(str(entry.get("id", ""))) for entry in listed]
    for entry in listed:
        aliases = entry.get("aliases")
        known = [entry.get("id"), *(aliases if isinstance(aliases, list) else [])]
        if address.model and (address.model in known or f"{address.model}:latest" in known):  # Ollama's tag
            return entry
    if address.model and (not names or not kind.lists_all):
        return {}
    has = f"it has {', '.join(names[:5])}{', …' if len(names) > 5 else ''}" if names else "it does not list its models"
    near = did_you_mean(address.model, names, count=3) if address.model else ""
    what = f"has no model {address.model}" if address.model else "is named without a model"
    first = names[0] if names else "NAME"
    raise ModelNotFoundError(f"{address.host} {what}; {has}", near or f"Type %llm_load {first}@{address.url}")


def _refuse_other_engines_options(request: ModelRequest) -> None:
    given = [
        flag
        for flag, value, fine in (
            ("--quantize", request.quantize, ("auto",)),
            ("--dtype", request.dtype, ("auto",)),
            ("--device-map", request.device_map, ("auto",)),
            ("--revision", request.revision, ("",)),
            ("--chat-template", request.chat_template, ("",)),
            ("--trust-remote-code", request.trust_remote_code, (False,)),
        )
        if value not in fine
    ]
    if given:
        raise InputError(f"{given[0]} is decided where the server is started", f"Leave {given[0]} out")
