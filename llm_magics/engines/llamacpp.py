"""GGUF files through llama.cpp, by the binding xllamacpp: llama.cpp's C++ server inside this process.

``prepare`` looks at the file, ``load`` takes the memory, ``LlamaCppEngine`` answers. The server keeps what it has
read: a prompt that begins like the one before costs only what is new. Chat templates are the file's own, rendered
here; the text goes to the model as tokens, so that nothing adds a second BOS token.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, LLMMagicsError, MissingPackageError, ModelTooLargeError
from ..values.answers import Chunk, StopReason, Usage
from ..values.asking import GenerationOptions
from ..values.messages import Message, Prompt
from ..values.models import ModelInfo, ModelRequest
from .base import room_for_answer
from .chat_template import compiled, no_template, text_of
from .constrained import grammar
from .gguf_header import Header
from .llamacpp_batch import stream_batch
from .llamacpp_server import SLOTS, LlamaCppServer, socket_folder
from .memory import WORKING_SHARE, free_bytes, gigabytes, give_back
from .requantized import checked
from .resolve import Source
from .shares import Endings, log_sum, shares
from .stop_texts import StopTexts
from .threads import physical_cores, wait_passively

_CONTEXT = 8192  # tokens, unless asked for: memory for keys and values is taken at once, and some models read 131072
# Bytes of weights below which a model is small. Threads wait for one another some 600 times a token or piece, in a
# small model after so little work that one thread writes faster than two, and that reading in pieces of 512 tokens
# takes two thirds of the time of pieces of 128: docs/decisions.md, "llama.cpp". A large model reads a piece of 128 for
# seconds, and a stop frees the processor after that.
_SMALL = 500_000_000
_PIECE, _PIECE_OF_LARGE = 512, 128
TOP_K = 50  # what transformers' generate takes where nothing is said, so that both engines sample alike
_SEEDS = 2**32 - 1  # the number after the last seed: llama.cpp takes it for "draw one"
_MOST_PROBABLE = 60  # tokens whose probabilities come with a reply; more take no longer, and few labels are below
_FORCE = 1e6  # added to a token's logit, and it is taken


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file that llama.cpp can open and that fits.

    Attributes:
        source: where it was found.
        request: how it was asked for.
        file: what is opened: the file itself, or the one made of it.
        header: what that holds.
        device: ``cpu``, or llama.cpp's name of a GPU.
        context: the longest prompt with its answer, in tokens.
    """

    source: Source
    request: ModelRequest
    file: Path
    header: Header
    device: str
    context: int


def prepare(
    source: Source,
    request: ModelRequest,
    *,
    coming_back: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Prepared:
    """Do everything that can fail before memory is taken. See ``transformers.prepare``.

    Args:
        source: where the file lies, from ``resolve``.
        request: how to load it; ``quantize="none"`` opens the file as it is.
        coming_back: bytes of a model that is closed before this one is loaded.
        say: told in one line what takes long.

    Raises:
        ModelFileError: truncated, damaged, or nothing that llama.cpp knows.
        ModelTooLargeError: it does not fit.
        InputError: no ``.gguf`` file, or an option that only transformers has.
        MissingPackageError: xllamacpp, gguf or jinja2 is not installed.
    """
    _refuse_other_engines_options(source, request)
    device = _device(request.device_map)
    if request.chat_template:
        compiled(request.chat_template)
    with socket_folder() as folder:
        found = checked(Path(source.location), f"{folder}/try.sock", requantize=_may_change(request, device), say=say)
    own = found.header.context or _CONTEXT
    if request.context > own:
        raise InputError(f"--context {request.context} is more than the model's {own}", f"Take at most {own}")
    context = request.context or min(own, _CONTEXT)
    if device == "cpu":
        _check_fits(source.name, found.header, context, free_bytes("cpu") + coming_back)
    return Prepared(source, request, found.path, found.header, device, context)


def load(prepared: Prepared) -> LlamaCppEngine:
    """Load a prepared model into memory.

    Args:
        prepared: from ``prepare``.

    Raises:
        ModelFileError: llama.cpp cannot open it after all.
    """
    begin = time.perf_counter()
    header, cores, gpu = prepared.header, physical_cores(), prepared.device != "cpu"
    small = header.size < _SMALL
    server = LlamaCppServer(
        prepared.file,
        context=prepared.context,
        threads=cores,
        answer_threads=1 if small else cores,
        piece=_PIECE if small or gpu else _PIECE_OF_LARGE,
        gpu=_number(prepared.request.device_map) if gpu else None,
    )
    info = ModelInfo(
        name=prepared.source.name,
        source=prepared.source.location,
        engine="llamacpp",
        device=prepared.device,
        dtype=header.dtype,
        quantization=header.quantization,
        parameters=header.parameters,
        memory=header.size,
        context=prepared.context,
        seconds=time.perf_counter() - begin,
    )
    return LlamaCppEngine(server, header, info, prepared.request.chat_template or header.chat_template)


class LlamaCppEngine:
    """A model of llama.cpp.

    Args:
        server: that runs it.
        header: what its file says.
        info: its figures; ``context`` bounds prompt plus answer.
        chat_template: the Jinja chat template; empty for a base model.
    """

    def __init__(self, server: LlamaCppServer, header: Header, info: ModelInfo, chat_template: str) -> None:
        self._server = server
        self._header = header
        self._info = info
        self._template = compiled(chat_template) if chat_template else None

    def info(self) -> ModelInfo:
        """The open model in figures."""
        return self._info

    def render(self, messages: Sequence[Message]) -> Prompt:
        """The exact text after the chat template, and its length in tokens.

        Raises:
            ModelError: the file has no chat template, or it refuses these messages.
        """
        template = self._template
        if template is None:
            raise no_template(self._info)

        def apply(turns: list[dict[str, str]]) -> str:
            special = {"bos_token": self._header.bos, "eos_token": self._header.eos}
            return template(messages=turns, add_generation_prompt=True, **special)

        text = text_of(messages, apply)
        return Prompt(tuple(messages), text, len(self._server.tokenize(text)))

    def stream(self, prompt: Prompt, options: GenerationOptions, stop: threading.Event) -> Iterator[Chunk]:
        """Answer, token by token. See ``Engine.stream``."""
        begin, first, count, cached = time.perf_counter(), 0.0, 0, 0
        ids = self._server.tokenize(prompt.text)
        room = room_for_answer(len(ids), self._info)
        cut, text = StopTexts(options.stop), ""
        reason: StopReason | None = None
        request = {
            "prompt": ids,
            "max_tokens": min(room, options.max_new_tokens),
            **sampling(options, self._info.context),
        }
        with contextlib.closing(self._server.complete(request, stop)) as replies:
            for reply in replies:
                choice, timings = reply["choices"][0], reply["timings"]
                count, cached = timings["predicted_n"], timings["cache_n"]
                if count:
                    first = first or time.perf_counter() - begin
                text = cut.push(choice["text"])
                if cut.found:
                    reason = "stop"
                    break
                if choice["finish_reason"]:
                    reason = "end" if choice["finish_reason"] == "stop" else "length"
                elif text:
                    yield Chunk(text, Usage(len(ids), count, first, time.perf_counter() - begin, cached))
                    text = ""
        usage = Usage(len(ids), count, first, time.perf_counter() - begin, cached)
        yield Chunk(text + cut.flush(), usage, reason or "stopped")

    def stream_batch(
        self, prompts: Sequence[Prompt], options: GenerationOptions, stop: threading.Event
    ) -> Iterator[tuple[int, Chunk | LLMMagicsError]]:
        """Answer several prompts, in the server's slots. See ``BatchEngine.stream_batch`` and ``llamacpp_batch``."""
        context, gpu = self._info.context, self._info.device != "cpu"
        return stream_batch(self.stream, prompts, options, stop, slots=SLOTS, context=context, gpu=gpu)

    def score(self, prompt: Prompt, choices: Sequence[str], stop: threading.Event) -> tuple[float, ...]:
        """Probability of each choice as the answer, by the model's own probabilities of its tokens.

        Each choice ends with the model's end token, so that ``pos`` does not win over
        ``positive`` by being shorter. The server reads the prompt once.

        Args:
            prompt: from ``render``.
            choices: the possible answers, at least one.
            stop: when set, scoring ends at the next token.

        Returns:
            One number a choice; they sum to 1. Nothing after a stop.

        Raises:
            ContextLengthError: prompt and longest choice are longer than the context.
        """
        answers = [self._server.tokenize(choice) for choice in choices]
        found = self._weighed(self._server.tokenize(prompt.text), answers, stop)
        return () if found is None else shares([before + end for before, end in found])

    def score_batch(
        self, prompts: Sequence[Prompt], choices: Sequence[str], stop: threading.Event
    ) -> Iterator[tuple[int, tuple[float, ...] | LLMMagicsError]]:
        """Probability of each choice for several prompts, one after the other: the server knows what they share.

        How probable it is that an answer ends after a choice takes half of the time and, after examples, is the same
        for every prompt. Where it is for the first ones, it is taken to be for the others too; see ``Endings``.
        """
        answers = [self._server.tokenize(choice) for choice in choices]
        endings = Endings(len(choices))
        for number in sorted(range(len(prompts)), key=lambda number: prompts[number].text):
            try:
                found = self._weighed(self._server.tokenize(prompts[number].text), answers, stop, endings.known)
            except LLMMagicsError as error:
                yield number, error
                continue
            if found is None:
                return
            endings.add([end for _, end in found])
            yield number, shares([before + end for before, end in found])

    def _weighed(
        self,
        ids: list[int],
        answers: Sequence[list[int]],
        stop: threading.Event,
        endings: Sequence[float] | None = None,
    ) -> list[tuple[float, float]] | None:
        """Log probabilities of each answer, and of an end after it; None after a stop.

        Args:
            ids: the prompt.
            answers: tokens of each.
            stop: ends it at the next token.
            endings: those of the ends, where they are known.
        """
        room_for_answer(len(ids) + max(map(len, answers)) + 1, self._info)
        ends = self._header.ends if endings is None else ()
        nexts: dict[tuple[int, ...], dict[int, None]] = {}  # after which tokens which tokens are weighed, in order
        for step in (step for answer in answers for step in _steps(answer, ends)):
            nexts.setdefault(step[:-1], {})[step[-1]] = None
        known: dict[tuple[int, ...], float] = {}
        for before, tokens in nexts.items():
            found = self._log_probabilities([*ids, *before], list(tokens), stop)
            if found is None:
                return None
            known |= {(*before, token): value for token, value in found.items()}
        if endings is None:
            endings = [log_sum([known[(*answer, end)] for end in ends]) if ends else 0.0 for answer in answers]
        return list(zip([_before_end(answer, known) for answer in answers], endings, strict=True))

    def _log_probabilities(
        self, ids: list[int], tokens: Sequence[int], stop: threading.Event
    ) -> dict[int, float] | None:
        """Natural logarithms of the probabilities that these tokens come next; None after a stop.

        Those of the most probable tokens come in one reply; any other is asked for by itself.
        """
        found: dict[int, float] = {}
        for token in tokens:
            if token in found:
                continue
            request = {
                "prompt": ids,
                "max_tokens": 1,
                "temperature": 0,
                "logprobs": _MOST_PROBABLE,
                "logit_bias": [[token, _FORCE]],  # what is reported are the probabilities before this
            }
            told = self._told(request, stop)
            if told is None:
                return None
            found |= {entry["id"]: float(entry["logprob"]) for entry in [*told["top_logprobs"], told]}
        return {token: found[token] for token in tokens}

    def _told(self, request: dict[str, Any], stop: threading.Event) -> dict[str, Any] | None:
        """What the server tells of the one token that it is made to choose; None after a stop."""
        with contextlib.closing(self._server.complete(request, stop)) as replies:
            for reply in replies:
                found = reply["choices"][0]["logprobs"]
                if found and found["content"]:
                    return dict(found["content"][0])
        return None

    def close(self) -> None:
        """Free the weights."""
        self._server.close()
        give_back()


def _steps(answer: list[int], ends: Sequence[int]) -> list[tuple[int, ...]]:
    """What is weighed for one answer: each of its tokens after those before it, then each end token after it."""
    return [*(tuple(answer[: size + 1]) for size in range(len(answer))), *((*answer, end) for end in ends)]


def _before_end(answer: list[int], known: Mapping[tuple[int, ...], float]) -> float:
    """Logarithm of the probability of an answer's tokens."""
    return math.fsum(known[tuple(answer[: size + 1])] for size in range(len(answer)))


def sampling(options: GenerationOptions, context: int) -> dict[str, Any]:
    """Our options in llama.cpp's words, with the samplers in the order that transformers has.

    Args:
        options: how tokens are chosen.
        context: tokens of a prompt with its answer.
    """
    return {
        "samplers": ["penalties", "temperature", "top_k", "top_p"],
        "temperature": options.temperature,
        "top_k": TOP_K,
        "top_p": options.top_p,
        "repeat_penalty": options.repetition_penalty,
        "repeat_last_n": context,  # all that was read and written, as in transformers; llama.cpp's own are the last 64
        "seed": _SEEDS if options.seed is None else options.seed % _SEEDS,
        **({"grammar": grammar(options.schema)} if options.schema else {}),
    }


def _refuse_other_engines_options(source: Source, request: ModelRequest) -> None:
    if source.kind != "gguf":
        raise InputError(f"llamacpp opens .gguf files, and {source.name} is none", "Leave --engine out")
    for flag, value, fine in (
        ("--quantize", request.quantize, ("auto", "none")),
        ("--dtype", request.dtype, ("auto",)),
    ):
        if value not in fine:
            raise InputError(
                f"{flag} {value} is for transformers: a .gguf file has its own weights",
                f"Leave {flag} out, or type --engine transformers",
            )


def gpus() -> list[str]:
    """llama.cpp's names of the GPUs that this build of it can use, such as ``CUDA0``.

    Raises:
        MissingPackageError: xllamacpp is not installed.
    """
    wait_passively()  # read by OpenMP when xllamacpp is imported
    try:
        import xllamacpp
    except ImportError as error:
        raise MissingPackageError("xllamacpp", "llamacpp") from error
    gpu = xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_GPU
    return [device["name"] for device in xllamacpp.get_device_info() if device["type"] == gpu]


def _device(wanted: str) -> str:
    found = gpus()
    if wanted == "cpu" or (wanted == "auto" and not found):
        return "cpu"
    number = _number(wanted)
    known = ["cpu", *(["cuda"] if found else []), *(f"cuda:{n}" for n in range(len(found)))]
    if wanted not in ("auto", *known):
        raise InputError(
            f"there is no device {wanted} for this build of llama.cpp", f"--device-map takes auto, {', '.join(known)}"
        )
    return found[max(number, 0)]


def _number(device_map: str) -> int:
    """The GPU that is asked for; -1 for all of them."""
    digits = device_map.rpartition(":")[2]
    return int(digits) if digits.isdecimal() else -1


def _may_change(request: ModelRequest, device: str) -> bool:
    return request.quantize == "auto" and device == "cpu"


def _check_fits(name: str, header: Header, context: int, free: int) -> None:
    needed = int(header.size * WORKING_SHARE) + header.kv_bytes * context
    if needed <= free:
        return
    fitting = int((free - header.size * WORKING_SHARE) // header.kv_bytes) if header.kv_bytes else 0
    raise ModelTooLargeError(
        f"{name} needs {gigabytes(needed)} with a context of {context}, and {gigabytes(free)} are free",
        f"It would fit with --context {fitting // 256 * 256}"
        if fitting >= 256
        else "Take a smaller model, or %llm_unload",
    )
