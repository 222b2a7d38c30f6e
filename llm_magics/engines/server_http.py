"""The line to a server: requests, events as they come, retries, and what can go wrong in one line.

Requests run in an event loop of their own, in one thread a connection, so that a stop ends them at once and closes
their sockets: the server then stops computing. HTTP and server-sent events are httpx2's, retries tenacity's.
"""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import json
import queue
import threading
import weakref
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from ..errors import AnswerBrokenError, ContextLengthError, LLMMagicsError, MissingPackageError, ServerError
from ..settings import LLMMagics
from .server_address import KEY, Address

Item = TypeVar("Item")
Event = dict[str, Any]
"""One event of a stream, as the server sends it."""

_LOOK = 0.05  # seconds between two looks at the stop event while the server is silent
_ATTEMPTS = 4
_LONGEST_WAIT = 120.0  # seconds that a server may ask to wait before a retry
_LARGEST_REPLY = 20_000_000  # bytes of a reply that is no stream: a list of models, the tokens of a prompt
_AFTER_THE_END = 5.0  # seconds to wait for the figures of an answer that is complete


class Connection:
    """An open line to one server. Safe from several threads.

    Args:
        address: the server, and the model there.
        key: sent as a bearer token; empty for none. It is in no error and no log.
        settings: for how long to wait.

    Raises:
        MissingPackageError: httpx2 or tenacity is not installed.
    """

    def __init__(self, address: Address, key: str, settings: LLMMagics) -> None:
        try:
            import httpx2
            import tenacity  # noqa: F401  (needed below)
            from anyio.from_thread import start_blocking_portal
        except ImportError as error:
            raise MissingPackageError(error.name or "httpx2", "server") from error
        self._address = address
        self._key = key
        self._settings = settings
        thread = contextlib.ExitStack()
        self._loop = thread.enter_context(start_blocking_portal(name="llm_magics server"))
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = self._loop.call(
            lambda: httpx2.AsyncClient(headers=headers, timeout=None, limits=httpx2.Limits())
        )
        # Also when the interpreter ends with a connection open: an answer may be running in the thread.
        self._close = weakref.finalize(self, _end, self._loop, self._client, thread)

    def ask(self, url: str, body: Any = None) -> Any:
        """One request and its JSON reply; not repeated where it fails.

        Args:
            url: the whole address.
            body: sent as JSON with POST; without one it is a GET.

        Raises:
            ServerError: no reply, or none that is JSON.
        """
        return self._loop.call(self._ask, url, body, self._settings.server_token_timeout)

    async def reply(self, url: str, body: Any) -> Any:
        """As ``ask``, in the connection's thread, and with the time that a first token may take."""
        return await self._ask(url, body, self._settings.server_first_token_timeout)

    def items(
        self, run: Callable[[], Awaitable[None]], found: queue.SimpleQueue[Item | None], stop: threading.Event
    ) -> Generator[Item]:
        """Run something in the connection's thread, and hand over what it finds.

        Args:
            run: puts items into ``found``.
            found: where they are taken from.
            stop: when set, ``run`` is cancelled; so it is when the generator is left.

        Yields:
            What is found, until ``run`` has ended; then what it raised is raised.
        """
        if stop.is_set():
            return

        async def until_the_end() -> None:
            try:
                await run()
            finally:
                found.put(None)

        task = self._loop.start_task_soon(until_the_end)
        try:
            while not stop.is_set():
                with contextlib.suppress(queue.Empty):
                    item = found.get(timeout=_LOOK)
                    if item is None:
                        return task.result()
                    yield item
        finally:
            task.cancel()

    async def stream(
        self, url: str, body: Event, take: Callable[[Event], bool], say: Callable[[str], None] = lambda line: None
    ) -> None:
        """One streamed answer. To be called in the connection's thread.

        What fails before the first token is tried again where that may help: the server is busy, cannot be reached,
        or fails. Nothing is tried again afterwards: the answer would begin anew.

        Args:
            url: the whole address.
            body: the request.
            take: given each event; returns whether that was enough.
            say: told in one line that a retry is waited for.

        Raises:
            ServerError: no answer.
            AnswerBrokenError: the answer ended in the middle.
            ContextLengthError: the server says that the prompt is too long.
        """
        import anyio
        import tenacity

        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            retry=tenacity.retry_if_exception(_may_pass),
            wait=_wait,
            sleep=anyio.sleep,
            before_sleep=lambda state: say(_waiting(state)),
            reraise=True,
        )
        await retrying(self._once, url, body, take)

    async def _once(self, url: str, body: Event, take: Callable[[Event], bool]) -> None:
        import anyio
        import httpx2

        begun = complete = False
        settings = self._settings
        timeout = httpx2.Timeout(None, connect=settings.server_connect_timeout)
        try:
            with anyio.fail_after(settings.server_first_token_timeout) as limit:
                async with self._client.sse(url, method="POST", json=body, timeout=timeout) as source:
                    await self._check(source.response)
                    async for sent in source:
                        if sent.data.strip() == "[DONE]":
                            break
                        event = self._event(sent.data)
                        begun, complete = begun or _has_text(event), complete or _is_last(event)
                        if take(event):
                            return
                        if begun or complete:
                            wait = _AFTER_THE_END if complete else settings.server_token_timeout
                            limit.deadline = anyio.current_time() + wait
            if not complete:
                raise httpx2.RemoteProtocolError("no reason for its end was given")
        except (TimeoutError, httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            if not complete:
                raise (
                    self._broken(error) if begun else self._unreachable(error, settings.server_first_token_timeout)
                ) from error

    async def _ask(self, url: str, body: Any, seconds: float) -> Any:
        import anyio
        import httpx2

        timeout = httpx2.Timeout(None, connect=self._settings.server_connect_timeout)
        method = "GET" if body is None else "POST"
        try:
            with anyio.fail_after(seconds):
                async with self._client.stream(method, url, json=body, timeout=timeout) as response:
                    await self._check(response)
                    content = await _read(response, _LARGEST_REPLY)
        except (TimeoutError, httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise self._unreachable(error, seconds) from error
        reply = _json(content)
        if reply is None:
            kind = response.headers.get("content-type", "").partition(";")[0] or "nothing that has a type"
            raise ServerError(
                f"{self._address.host} does not speak OpenAI's API at {self._address.url}: it sent {self._clean(kind)}",
                "Look at the address: it usually ends with /v1",
            )
        return reply

    async def _check(self, response: Any) -> None:
        """Raise what a status other than 200 means."""
        host, status = self._address.host, response.status_code
        if response.has_redirect_location:
            place = self._clean(response.headers["location"])
            raise ServerError(
                f"{host} sends on to {place}: prompts go only where you say",
                "Name that address if you trust it",
                status,
            )
        if status < 300:
            return
        if status in (401, 403):  # what a server says to that may repeat the key
            what = "does not take the key" if self._key else "wants a key"
            raise ServerError(
                f"{host} {what} ({status})",
                f"Set {KEY} before the kernel starts, or type keyring set llm_magics {host} in a terminal",
                status,
            )
        reply = _json(await _read(response, 100_000))  # a page for a browser says nothing in one line
        said = self._without_key(_message(reply))
        what = printable(said) or "no reason"
        if _is_too_long(reply):
            raise ContextLengthError(
                f"the prompt is too long for {self._address.model}: {what}", "Shorten it, or ask with --no-history"
            )
        wait = _retry_after(response.headers.get("retry-after", ""))
        seconds = f", and asks to wait {wait:.0f} s" if wait else ""
        busy, hint = f"{host} answered {status}{seconds}: {what}", "Run the cell again later"
        error = ServerError(busy, hint, status, said=said, retry_after=wait)
        if not error.may_pass:
            hint = "Look at the model's name and the options"
            error = ServerError(f"{host} refuses: {what} ({status})", hint, status, said=said)
        raise error

    def _event(self, data: str) -> Event:
        event = _json(data)
        if not isinstance(event, dict):
            raise AnswerBrokenError(f"{self._address.host} sent an event that is no JSON object", "Run the cell again")
        error = event.get("error")
        if error:
            message = self._clean(_message(event)) or "no reason"
            raise AnswerBrokenError(f"{self._address.host} broke off the answer: {message}", "Run the cell again")
        return event

    def _broken(self, error: BaseException) -> AnswerBrokenError:
        """What it means that a stream ends in the middle."""
        host, seconds = self._address.host, self._settings.server_token_timeout
        if isinstance(error, TimeoutError):
            hint = "Run the cell again, or type %llm_config server_token_timeout=300"
            return AnswerBrokenError(f"{host} was silent for {seconds:g} s in the middle of the answer", hint)
        return AnswerBrokenError(
            f"{host} ended in the middle of the answer: {self._clean(_reason(error))}", "Run the cell again"
        )

    def _unreachable(self, error: BaseException, seconds: float) -> ServerError:
        """What it means that there is no answer."""
        import httpx2

        host = self._address.host
        if isinstance(error, httpx2.ConnectTimeout):
            limit = self._settings.server_connect_timeout
            return ServerError(f"{host} cannot be reached in {limit:g} s", "Is the server up?", passing=True)
        if isinstance(error, httpx2.ConnectError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
            return ServerError(
                f"{host} has no certificate that this machine trusts: {self._clean(_reason(error))}",
                "Put its authority's certificate into the file that SSL_CERT_FILE names before the kernel starts",
            )
        if isinstance(error, httpx2.ConnectError):
            reason = self._clean(_reason(error))
            why = "" if reason == "All connection attempts failed" else f": {reason}"
            return ServerError(
                f"nothing answers at {host}{why}", "Start the server, and look at host and port", passing=True
            )
        if isinstance(error, TimeoutError):
            hint = (
                "A long prompt or a model that is being loaded takes more: %llm_config shows server_first_token_timeout"
            )
            return ServerError(f"{host} sent nothing in {seconds:g} s", hint)
        lasting = httpx2.SSEError, httpx2.InvalidURL, httpx2.UnsupportedProtocol
        return ServerError(
            f"{host} gave no answer: {self._clean(_reason(error))}",
            "Look at the address: it usually ends with /v1" if isinstance(error, lasting) else "Run the cell again",
            passing=not isinstance(error, lasting),
        )

    def _clean(self, text: str) -> str:
        return printable(self._without_key(text))

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "…") if self._key else text

    def close(self) -> None:
        """Give up what is running, and close every socket."""
        self._close()


def _end(loop: Any, client: Any, thread: contextlib.ExitStack) -> None:
    with contextlib.suppress(CancelledError, RuntimeError):  # the loop has ended already
        loop.call(client.aclose)
        loop.call(loop.stop, True)
    with contextlib.suppress(RuntimeError):
        thread.close()


def printable(text: str) -> str:
    """What a server says in one short line, without what a terminal would obey."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return text if len(text) <= 200 else f"{text[:199]}…"


def _json(content: bytes | str) -> Any:
    """A value; None where it is no JSON, or so deep that nobody means it."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


async def _read(response: Any, most: int) -> bytes:
    """The body, or its beginning where it is larger than ``most`` bytes."""
    content = bytearray()
    async for piece in response.aiter_bytes():
        content += piece
        if len(content) > most:
            break
    return bytes(content[:most])


def choice_of(event: Event) -> dict[str, Any]:
    """What an event adds to the answer: ``delta`` and ``finish_reason``; empty where it tells something else."""
    choices = event.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    return choice if isinstance(choice, dict) else {}


def delta_of(event: Event) -> tuple[str, str]:
    """The new reasoning and the new text of an event."""
    delta = choice_of(event).get("delta")
    if not isinstance(delta, dict):
        return "", ""
    reasoning, text = delta.get("reasoning_content") or delta.get("reasoning"), delta.get("content")
    return _text(reasoning), _text(text)


def _text(value: Any) -> str:
    """A text that can be written: half a surrogate pair, which JSON can hold and UTF-8 cannot, becomes ``?``."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else ""


def _has_text(event: Event) -> bool:
    return any(delta_of(event))


def _is_last(event: Event) -> bool:
    return bool(choice_of(event).get("finish_reason"))


def _message(said: Any) -> str:
    """What went wrong, in the server's words: each has a form of its own for it."""
    while isinstance(said, dict):
        said = said.get("error") or said.get("message") or said.get("detail")
    return said if isinstance(said, str) else json.dumps(said) if said else ""


def _is_too_long(said: Any) -> bool:
    error = said.get("error", said) if isinstance(said, dict) else {}
    words = [str(error.get(name, "")) for name in ("code", "type")] if isinstance(error, dict) else []
    known = {"context_length_exceeded", "exceed_context_size_error"}  # OpenAI and others; llama.cpp
    return bool(known & set(words)) or "maximum context length" in _message(said)  # vLLM, SGLang


def _reason(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, ServerError) and error.may_pass and error.retry_after <= _LONGEST_WAIT


def _wait(state: Any) -> float:
    """Seconds to the next attempt: what the server asks for, else longer every time, with chance in it."""
    import tenacity

    asked = getattr(state.outcome.exception(), "retry_after", 0.0)
    return float(asked or tenacity.wait_random_exponential(multiplier=1, max=10)(state))


def _waiting(state: Any) -> str:
    error: LLMMagicsError = state.outcome.exception()
    return f"{error.message}; again in {state.next_action.sleep:.0f} s"


def _retry_after(value: str) -> float:
    """Seconds that ``Retry-After`` asks for, by number or by date (RFC 9110, section 10.2.3); 0 for none."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        date = email.utils.parsedate_to_datetime(value)
        return max(0.0, (date - datetime.datetime.now(datetime.UTC)).total_seconds())
    except (TypeError, ValueError):  # no header, no date, or a date without a time zone
        return 0.0
