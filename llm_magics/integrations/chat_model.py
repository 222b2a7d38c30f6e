"""A session's model as a LangChain chat model."""

from __future__ import annotations

import functools
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ChatMessage, HumanMessage, SystemMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import ConfigDict, Field, SkipValidation

from ..errors import InputError, did_you_mean
from ..values.answers import Usage
from ..values.asking import AskRequest
from ..values.messages import Message, Role
from .asking import Asks, Turn, in_thread, texts

_FINISH = {"end": "stop", "stop": "stop", "length": "length", "stopped": "stopped", "loop": "loop"}
_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
}
# Names of a call's options -> those of AskRequest.
_OPTIONS = {
    "model": "model",
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_new_tokens",
    "max_new_tokens": "max_new_tokens",
    "repetition_penalty": "repetition_penalty",
    "seed": "seed",
}
_LANGCHAINS_OWN = {"stream", "ls_structured_output_format", "output_version"}  # it passes them to every model


class ChatLLMMagics(BaseChatModel):
    """The model that answers in a session. It has no tools; images and sounds are refused.

    Each call sends the given messages and nothing else: no conversation of the notebook, no system text of
    the settings, and it is not kept in the history. Options that are not given come from the settings.
    Calls wait for one another; where a cell of the notebook is being answered, they raise ``BusyError``.

    Attributes:
        session: the session that asks.
        model_name: a loaded model; empty for the one loaded last when the call is made.
        temperature: 0 takes the most probable token each time.
        max_tokens: the longest answer.
        top_p: share of probability that is sampled from.
        repetition_penalty: 1 leaves the logits alone.
        seed: random seed.
        stop: texts at which the answer ends, unless the call names others.
        turn: shared by all that wait for one another.
    """

    model_config = ConfigDict(populate_by_name=True, arbitrary_types_allowed=True)

    session: SkipValidation[Asks] = Field(exclude=True, repr=False)
    model_name: str = Field(default="", alias="model")
    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: list[str] | None = None
    turn: SkipValidation[Turn] = Field(default_factory=Turn, exclude=True, repr=False)

    @property
    def _llm_type(self) -> str:
        return "llm_magics"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        names = ("model_name", "temperature", "max_tokens", "top_p", "repetition_penalty", "seed", "stop")
        return {name: getattr(self, name) for name in names}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(iter([chunk async for chunk in self._astream(messages, stop, **kwargs)]))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        return self._chunks(threading.Event(), messages, self._request(stop, kwargs))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        request = self._request(stop, kwargs)
        async for chunk in in_thread(functools.partial(self._chunks, messages=messages, request=request)):
            yield chunk

    def _chunks(
        self, stop: threading.Event, messages: Sequence[BaseMessage], request: AskRequest
    ) -> Iterator[ChatGenerationChunk]:
        turns = _turns(messages)
        with self.turn.taken():
            if stop.is_set():  # given up while it waited
                return
            stream = self.session.ask_messages(turns, request)
            for chunk in stream:
                if stop.is_set():
                    stream.stop()
                if chunk.stop_reason is not None:
                    yield _last(chunk.text, chunk.usage, stream.model, chunk.stop_reason)
                elif chunk.text:
                    yield ChatGenerationChunk(message=AIMessageChunk(content=chunk.text))

    def _request(self, stop: Sequence[str] | str | None, given: Mapping[str, Any]) -> AskRequest:
        """The options of a call over those of this object.

        Raises:
            InputError: an option that there is not.
        """
        options: dict[str, Any] = {
            _OPTIONS[name]: getattr(self, name) for name in _OPTIONS if name in type(self).model_fields
        }
        options["model"] = self.model_name
        for name, value in given.items():
            if name in _LANGCHAINS_OWN or value is None:
                continue
            if name in ("tools", "functions"):
                raise InputError("this chat model has no tools", "Leave them out")
            if name not in _OPTIONS:
                hint = did_you_mean(name, _OPTIONS) or f"There are {', '.join(_OPTIONS)} and stop"
                raise InputError(f"there is no option {name}", hint)
            options[_OPTIONS[name]] = value
        return AskRequest(**options, stop=texts(self.stop if stop is None else stop), format="text", history=False)


def _last(text: str, usage: Usage, model: str, reason: str) -> ChatGenerationChunk:
    tokens = UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.new_tokens,
        total_tokens=usage.prompt_tokens + usage.new_tokens,
    )
    about = {"model_name": model, "model_provider": "llm_magics", "finish_reason": _FINISH[reason]}
    message = AIMessageChunk(content=text, usage_metadata=tokens, response_metadata=about, chunk_position="last")
    return ChatGenerationChunk(message=message, generation_info={"finish_reason": _FINISH[reason]})


def _turns(messages: Sequence[BaseMessage]) -> list[Message]:
    """The messages as the session takes them. Two of one role in a row are one: many chat templates want turns."""
    found: list[Message] = []
    for message in messages:
        role, text = _role(message), _text(message)
        if found and found[-1].role == role:
            text = f"{found.pop().content}\n\n{text}"
        found.append(Message(role, text))
    return found


def _role(message: BaseMessage) -> Role:
    if isinstance(message, SystemMessage):
        return "system"
    if isinstance(message, HumanMessage):
        return "user"
    if isinstance(message, AIMessage):
        return "assistant"
    if isinstance(message, ChatMessage) and message.role in _ROLES:
        return _ROLES[message.role]
    raise InputError(
        f"this chat model cannot read a {type(message).__name__}", "It takes system, human and AI messages"
    )


def _text(message: BaseMessage) -> str:
    """The text of a message.

    Raises:
        InputError: there is an image, a sound or a file in it.
    """
    blocks = message.content if isinstance(message.content, list) else [message.content]
    kinds = {"text" if isinstance(block, str) else str(block.get("type")) for block in blocks}
    other = sorted(kinds - {"text", "reasoning"})
    if other:
        raise InputError(f"this chat model reads text alone, not {', '.join(other)}", "Leave it out of the message")
    return "".join(block if isinstance(block, str) else str(block.get("text", "")) for block in blocks)
