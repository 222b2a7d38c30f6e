"""Models through Hugging Face transformers: safetensors folders, Hub ids and GGUF files.

``prepare`` fetches and checks, ``load`` takes the memory, ``TransformersEngine`` answers. ``generate`` runs in a
thread of its own and hands every token over, so that a stream can be stopped at any of them.
Chat templates are the tokenizer's own; the rendered text already holds the special tokens, so it
is encoded without adding any, and a BOS token can never be there twice.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..errors import (
    ContextLengthError,
    InputError,
    LLMMagicsError,
    MissingPackageError,
    ModelFileError,
    OutOfMemoryError,
)
from ..quiet import quiet
from ..values.answers import Chunk, StopReason, Usage
from ..values.asking import GenerationOptions
from ..values.messages import Message, Prompt
from ..values.models import ModelInfo, ModelRequest
from .base import room_for_answer
from .chat_template import no_template, text_of
from .constrained import Constraint
from .memory import Weights, check_fits, free_bytes, give_back
from .prefix_cache import LEAST, PrefixCache
from .resolve import Source
from .shares import shares
from .stop_texts import StopTexts
from .threads import wait_passively
from .transformers_batch import Batches, Row, StoppedError, memory_errors
from .transformers_scores import Weighed, after_beginning, can_pack, log_probabilities

_T = TypeVar("_T")
# Prompt lookup (Saxena 2023, github.com/apoorvumang/prompt-lookup-decoding): words that stand in the prompt are tried
# several at a time. It pays where an answer repeats passages, and with a penalty on repeating it does not. What was
# read before cannot be used with it in this version of transformers, which then reads the whole prompt once more.
_LOOKUP = 5  # tokens that are tried at a time
_LOOKUP_FROM = 200  # tokens of a prompt from which on there is much to repeat
_LOOKUP_KNOWN = 64  # tokens of its beginning that may be known and are read again for it

_LOADING = threading.Lock()  # from_pretrained patches torch for the whole process while it runs


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model that is on the disk, fits, and can be loaded.

    Attributes:
        source: where it was found.
        request: how it was asked for.
        folder: its files.
        quantize: ``nf4``, ``int8`` or ``none``.
        dtype: type of the weights that are not quantized.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        context: the longest prompt with its answer, in tokens.
    """

    source: Source
    request: ModelRequest
    folder: str
    quantize: str
    dtype: str
    device: str
    context: int


def prepare(
    source: Source,
    request: ModelRequest,
    *,
    coming_back: int = 0,
    fits: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> Prepared:
    """Do everything that can fail before memory is taken: fetch or unpack, check files and sizes.

    Args:
        source: where the model lies, from ``resolve``.
        request: how to load it.
        coming_back: bytes of a model that is closed before this one is loaded.
        fits: whether it has to fit in what is free; not where another process opens it, and later.
        say: told in one line what takes long.

    Raises:
        ModelError: one of its kinds: not found, gated, damaged, too large.
        InputError: a device or a context that cannot be.
        MissingPackageError: torch, transformers or bitsandbytes is not installed.
    """
    torch = _import_torch()
    device = _device(request.device_map, torch)
    quantize = request.quantize
    dtype = request.dtype if request.dtype != "auto" else _natural_dtype(device, quantize, torch)

    def check(weights: Weights) -> None:
        nonlocal quantize
        if quantize == "auto":
            tight = device.startswith("cuda") and weights.bytes("none", dtype) > free_bytes(device) + coming_back
            quantize = "nf4" if tight else "none"
        if fits:
            check_fits(source.name, weights, quantize, dtype, device, coming_back)

    if quantize in ("nf4", "int8"):
        _quantization(quantize)  # bitsandbytes may be missing: better known now
    with _LOADING:
        folder = _folder(source, request, dtype, check, say)
    check(_count_weights(folder))
    with _one_line_errors(source.name, request), quiet():
        context = _context(request, folder)
    return Prepared(source, request, folder, quantize, dtype, device, context)


def load(prepared: Prepared) -> TransformersEngine:
    """Load a prepared model into memory.

    Args:
        prepared: from ``prepare``.

    Raises:
        ModelFileError: the files do not make this model.
        OutOfMemoryError: nothing of it stays in memory.
    """
    begin = time.perf_counter()
    name, request = prepared.source.name, prepared.request
    with _LOADING, _one_line_errors(name, request), quiet():
        tokenizer, model = _load(prepared)
    if request.chat_template:
        tokenizer.chat_template = request.chat_template
    info = ModelInfo(
        name=name,
        source=prepared.source.location,
        engine="transformers",
        device=str(model.device),
        dtype=prepared.dtype,
        quantization=prepared.quantize,
        parameters=model.num_parameters(),
        memory=model.get_memory_footprint(),
        context=prepared.context,
        seconds=time.perf_counter() - begin,
    )
    return TransformersEngine(model, tokenizer, info)


@dataclass(slots=True)
class _Run:
    """One answer in its thread, and the queue through which its tokens come back."""

    ids: list[int]
    options: GenerationOptions
    max_new_tokens: int
    stopped: Callable[[], bool]
    seed: int
    known: int = 0  # tokens of the prompt that were read before
    written: int = 0  # tokens of the answer that were put
    tokens: queue.SimpleQueue[int | BaseException | None] = field(default_factory=queue.SimpleQueue)


def open_model(source: Source, request: ModelRequest) -> TransformersEngine:
    """``prepare`` and ``load`` in one call, for scripts that hold one model."""
    return load(prepare(source, request))


class TransformersEngine:
    """A causal language model of transformers with its tokenizer.

    Args:
        model: in eval mode, on its device.
        tokenizer: its tokenizer.
        info: its figures; ``context`` bounds prompt plus answer.
        prefixes: what the model has read before; begins empty unless given.
    """

    def __init__(self, model: Any, tokenizer: Any, info: ModelInfo, prefixes: PrefixCache | None = None) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._info = info
        self._constraint: Constraint | None = None  # made for the first answer that follows a schema
        self._adapter = ""
        self._prefixes = prefixes or PrefixCache(model)

    def info(self) -> ModelInfo:
        """The open model in figures."""
        return self._info

    def render(self, messages: Sequence[Message]) -> Prompt:
        """The exact text after the chat template, and its length in tokens.

        Raises:
            ModelError: the tokenizer has no chat template, or refuses these messages.
        """
        if not self._tokenizer.chat_template:
            raise no_template(self._info)
        text = text_of(messages, self._apply_template)
        return Prompt(tuple(messages), text, len(self._encode(text)))

    def _apply_template(self, turns: list[dict[str, str]]) -> str:
        return str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def stream(self, prompt: Prompt, options: GenerationOptions, stop: threading.Event) -> Iterator[Chunk]:
        """Answer, token by token. See ``Engine.stream``."""
        ids = self._encode(prompt.text)
        room = room_for_answer(len(ids), self._info)
        begin, first, count = time.perf_counter(), 0.0, 0
        halt = threading.Event()
        seed = secrets.randbits(63) if options.seed is None else options.seed
        run = _Run(ids, options, min(room, options.max_new_tokens), lambda: stop.is_set() or halt.is_set(), seed)
        thread = threading.Thread(target=self._generate, args=(run,), name="llm_magics generate", daemon=True)
        thread.start()
        decode, cut, last = _decoder(self._tokenizer), StopTexts(options.stop), None
        reason: StopReason | None = None
        try:
            while (token := run.tokens.get()) is not None:
                if isinstance(token, BaseException):
                    raise token
                count, last = count + 1, token
                first = first or time.perf_counter() - begin
                text = cut.push(decode(token))
                if cut.found:
                    reason = "stop"
                    break
                if text:
                    yield Chunk(text, Usage(len(ids), count, first, time.perf_counter() - begin, run.known))
        finally:
            halt.set()
            thread.join()
        if reason is None:
            text = cut.flush()
            reason = "end" if last in self._end_tokens() else "stopped" if stop.is_set() else "length"
        yield Chunk(text, Usage(len(ids), count, first, time.perf_counter() - begin, run.known), reason)

    def _generate(self, run: _Run) -> None:
        """Runs in a thread: puts each token, then an exception where there was one, then None."""
        try:
            with self._stoppable(run.stopped):
                self._with_room(lambda: self._call_generate(run))
        except StoppedError:
            pass  # ``stream`` sees that the stop event is set
        except Exception as error:
            shown = _out_of_memory(error)
            if shown is not None:
                # The traceback's frames hold the tensors that filled the memory.
                traceback.clear_frames(error.__traceback__)
                error.__traceback__ = None
            run.tokens.put(shown or error)
            if shown is not None:
                give_back()
        finally:
            run.tokens.put(None)

    def _call_generate(self, run: _Run) -> None:
        import torch
        from transformers import StoppingCriteria, StoppingCriteriaList
        from transformers.generation.streamers import BaseStreamer

        class Handover(BaseStreamer):
            prompt_seen = False

            def put(self, value: Any) -> None:
                for token in value.flatten().tolist() if self.prompt_seen else ():
                    reading.ids.append(token)
                    if len(reading.ids) > len(run.ids) + run.written:  # else a second run repeats the first
                        run.written += 1
                        run.tokens.put(token)
                self.prompt_seen = True

            def end(self) -> None:
                """The stream's end is put by ``_generate``, after an exception too."""

        class Stopped(StoppingCriteria):
            def __call__(self, input_ids: Any, scores: Any, **unused: Any) -> Any:
                return torch.full((input_ids.shape[0],), run.stopped(), device=input_ids.device, dtype=torch.bool)

        inputs = torch.tensor([run.ids], device=self._model.device)
        arguments = self._arguments(run.options, len(run.ids))
        look_up = self._may_look_up(run)
        known = self._prefixes.reading(self._adapter, run.ids, _LOOKUP_KNOWN if look_up else LEAST)
        with torch.random.fork_rng(), torch.inference_mode(), known as reading:  # the user's random state stays
            run.known = reading.known
            if reading.cache is not None:
                arguments["past_key_values"] = reading.cache
                arguments |= {"prompt_lookup_num_tokens": _LOOKUP} if look_up and not reading.known else {}
            torch.manual_seed(run.seed)
            self._model.generate(
                input_ids=inputs,
                attention_mask=torch.ones_like(inputs),
                max_new_tokens=run.max_new_tokens,
                streamer=Handover(),
                stopping_criteria=StoppingCriteriaList([Stopped()]),
                **arguments,
            )

    def _arguments(self, options: GenerationOptions, prompt_length: int) -> dict[str, Any]:
        """How ``generate`` chooses tokens."""
        return {
            "do_sample": not options.greedy,
            "repetition_penalty": options.repetition_penalty,
            "pad_token_id": self._pad_token(),
            "logits_processor": self._allowed(options, prompt_length),
            **({} if options.greedy else {"temperature": options.temperature, "top_p": options.top_p}),
        }

    def stream_batch(
        self, prompts: Sequence[Prompt], options: GenerationOptions, stop: threading.Event
    ) -> Iterator[tuple[int, Chunk | LLMMagicsError]]:
        """Answer several prompts in batches. See ``BatchEngine.stream_batch`` and ``transformers_batch``."""
        rows: list[Row] = []
        for number, prompt in enumerate(prompts):
            ids = self._encode(prompt.text)
            try:
                limit = min(room_for_answer(len(ids), self._info), options.max_new_tokens)
            except ContextLengthError as error:
                yield number, error
                continue
            rows.append(Row(number, ids, limit, _decoder(self._tokenizer), StopTexts(options.stop)))
        seed = secrets.randbits(62) if options.seed is None else options.seed

        @contextlib.contextmanager
        def computing(batch: int) -> Iterator[None]:
            import torch

            with torch.random.fork_rng(), torch.inference_mode(), self._stoppable(stop.is_set):
                torch.manual_seed(seed + batch)
                yield

        arguments = functools.partial(self._arguments, options)
        yield from Batches(self._model, self._end_tokens(), arguments, computing, stop.is_set).answers(rows)

    def _allowed(self, options: GenerationOptions, prompt_length: int) -> Any:
        """Logits processors that hold an answer to its schema; none where it has none."""
        from transformers import LogitsProcessorList

        if not options.schema:
            return LogitsProcessorList()
        self._constraint = self._constraint or Constraint(self._tokenizer, self._end_tokens())
        return LogitsProcessorList([self._constraint.processor(options.schema, prompt_length)])

    def _may_look_up(self, run: _Run) -> bool:
        """Whether prompt lookup may pay, where its text was seen to be the same: greedy, in float32 on a CPU."""
        options, info = run.options, self._info
        plain = options.greedy and options.repetition_penalty == 1 and not options.schema
        measured = (info.device, info.dtype, info.quantization) == ("cpu", "float32", "none")
        return plain and measured and len(run.ids) >= _LOOKUP_FROM

    def _with_room(self, work: Callable[[], _T]) -> _T:
        """Do it again, once, without what is kept of earlier prompts, where that leaves too little memory."""
        try:
            return work()
        except Exception as error:
            if _out_of_memory(error) is None or not self._prefixes.clear():
                raise
            traceback.clear_frames(error.__traceback__)  # they hold the tensors that filled the memory
        give_back()
        return work()

    def cached_bytes(self) -> int:
        """Bytes of keys and values that are kept of earlier prompts. See ``PrefixKeeper``."""
        return self._prefixes.size(self._adapter)

    def limit_cache(self, limit: int) -> None:
        """Keep at most this many bytes of them. See ``PrefixKeeper``."""
        self._prefixes.limit(limit)

    def score(self, prompt: Prompt, choices: Sequence[str], stop: threading.Event) -> tuple[float, ...]:
        """Probability of each choice as the answer, by the model's own probabilities of its tokens.

        Each choice ends with the model's end token, so that ``pos`` does not win over
        ``positive`` by being shorter.

        Args:
            prompt: from ``render``.
            choices: the possible answers, at least one.
            stop: when set, scoring ends within one layer of the model.

        Returns:
            One number a choice; they sum to 1. Nothing after a stop.

        Raises:
            ContextLengthError: prompt and longest choice are longer than the context.
            OutOfMemoryError: the model stays usable.
        """
        ids = self._encode(prompt.text)
        answers = [self._encode(choice) for choice in choices]
        room_for_answer(len(ids) + max(map(len, answers)) + 1, self._info)
        try:
            with self._inference(stop.is_set), memory_errors():
                return shares(self._with_room(lambda: self._log_probabilities(ids, answers)))
        except StoppedError:
            return ()

    def score_batch(
        self, prompts: Sequence[Prompt], choices: Sequence[str], stop: threading.Event
    ) -> Iterator[tuple[int, tuple[float, ...] | LLMMagicsError]]:
        """Probability of each choice for several prompts. See ``BatchScorer`` and ``transformers_scores``."""
        answers = [self._encode(choice) for choice in choices]
        rows: list[Weighed] = []
        for number, prompt in enumerate(prompts):
            ids = self._encode(prompt.text)
            try:
                room_for_answer(len(ids) + max(map(len, answers)) + 1, self._info)
            except ContextLengthError as error:
                yield number, error
                continue
            rows.append(Weighed(number, ids, answers))
        for number, logarithms in self._weigh(rows, stop):
            yield number, shares(logarithms)

    def _weigh(self, rows: Sequence[Weighed], stop: threading.Event) -> Iterator[tuple[int, list[float]]]:
        """Log probabilities of each row's answers; what is not weighed after a stop is left out."""
        if can_pack(self._model):
            weigh = log_probabilities(self._model, rows, self._end_tokens())
        else:
            weigh = ((row.number, self._log_probabilities(row.prompt, row.answers)) for row in rows)
        while True:
            # Not around the loop: what is asked for meanwhile computes in its own way.
            try:
                with self._inference(stop.is_set), memory_errors():
                    found = next(weigh, None)
            except StoppedError:
                return
            if found is None or stop.is_set():
                return
            yield found

    @contextlib.contextmanager
    def _inference(self, stopped: Callable[[], bool]) -> Iterator[None]:
        import torch

        with torch.inference_mode(), self._stoppable(stopped):
            yield

    def _log_probabilities(self, prompt: list[int], answers: Sequence[list[int]]) -> list[float]:
        """Of each answer's tokens and then any of the end tokens. The prompt is read once, what is known of it not."""
        with self._prefixes.reading(self._adapter, prompt) as reading:
            if reading.cache is None or not can_pack(self._model):
                return [self._log_probability(prompt, answer) for answer in answers]
            self._read(prompt[reading.known : -1], reading.cache)
            return after_beginning(self._model, Weighed(0, prompt, answers), reading.cache, self._end_tokens())

    def _read(self, ids: list[int], cache: Any) -> None:
        """Add the keys and values of these tokens to a cache."""
        import torch

        if ids:
            self._model(torch.tensor([ids], device=self._model.device), past_key_values=cache, logits_to_keep=1)

    def _log_probability(self, prompt: list[int], answer: list[int]) -> float:
        """Of an answer's tokens and then any of the end tokens, for models whose cache cannot be shared."""
        import torch

        ids, ends = torch.tensor([prompt + answer], device=self._model.device), self._end_tokens()
        logs = torch.log_softmax(self._model(ids).logits[0, -len(answer) - 1 :].float(), dim=-1)
        total = logs[:-1].gather(1, ids[0, -len(answer) :, None]).sum()
        return float(total + torch.logsumexp(logs[-1, ends], dim=0) if ends else total)

    @contextlib.contextmanager
    def _stoppable(self, stopped: Callable[[], bool]) -> Iterator[None]:
        """Look at every layer whether to stop: reading a long prompt is one step of many seconds."""

        def look(*unused: object) -> None:
            if stopped():
                raise StoppedError

        layers = max((m for m in self._model.modules() if type(m).__name__ == "ModuleList"), key=len, default=())
        hooks = [layer.register_forward_pre_hook(look) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _end_tokens(self) -> list[int]:
        ends = self._model.generation_config.eos_token_id
        if ends is None:
            ends = self._tokenizer.eos_token_id
        return ends if isinstance(ends, list) else [] if ends is None else [ends]

    def _pad_token(self) -> int | None:
        pad = self._tokenizer.pad_token_id
        return pad if pad is not None else next(iter(self._end_tokens()), None)

    def close(self) -> None:
        """Free the weights, and what is kept of prompts."""
        self._model = self._tokenizer = None
        self._prefixes.clear()
        give_back()


def _import_torch() -> Any:
    if "torch" not in sys.modules:
        wait_passively()  # read by OpenMP when torch is imported
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(error.name or "torch", "transformers") from error
    return torch


def _device(wanted: str, torch: Any) -> str:
    count = torch.cuda.device_count()
    if wanted == "auto":
        return "cuda" if count else "cpu"
    known = ["cpu", *(["cuda"] if count else []), *(f"cuda:{number}" for number in range(count))]
    if wanted not in known:
        raise InputError(f"there is no device {wanted}", f"--device-map takes auto, {', '.join(known)}")
    return wanted


def _natural_dtype(device: str, quantize: str, torch: Any) -> str:
    """What stays unquantized is in 16 bits; bitsandbytes' int8 computes in float16."""
    if quantize == "int8":
        return "float16"
    if device == "cpu":
        return "bfloat16" if quantize == "nf4" else "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"


def _folder(
    source: Source, request: ModelRequest, dtype: str, check: Callable[[Weights], None], say: Callable[[str], None]
) -> str:
    if source.kind == "gguf":
        from .dequantized import dequantized

        return dequantized(Path(source.location), dtype, check=check, say=say)
    if source.kind == "hub":
        from .hub import fetch

        return fetch(source.location, request.revision, code=request.trust_remote_code, check=check)
    return source.location


def _count_weights(folder: str) -> Weights:
    from safetensors import SafetensorError, safe_open

    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise ModelFileError(
            f"{folder} holds no .safetensors weights",
            "Older .bin weights are pickles and are not opened: convert them with save_pretrained",
        )
    tensors: list[tuple[str, tuple[int, ...]]] = []
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                tensors += [(name, tuple(opened.get_slice(name).get_shape())) for name in opened.keys()]  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelFileError(f"{file} is damaged: {error}", "Download or copy it again") from error
    return Weights.count(tensors)


def _load(prepared: Prepared) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    code = {"trust_remote_code": prepared.request.trust_remote_code, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(prepared.folder, **code)
    model, found = AutoModelForCausalLM.from_pretrained(
        prepared.folder,
        dtype=getattr(torch, prepared.dtype),
        device_map="auto" if prepared.device == "cuda" else prepared.device,
        quantization_config=_quantization(prepared.quantize),
        use_safetensors=True,
        output_loading_info=True,
        **code,
    )
    absent = sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"]]))
    if absent:  # they would be random numbers
        more = f" and {len(absent) - 2} more" if len(absent) > 2 else ""
        raise ModelFileError(
            f"{prepared.source.name} lacks weights that its config.json asks for: {', '.join(absent[:2])}{more}",
            "Copy or download it again",
        )
    return tokenizer, model.eval()


def _quantization(quantize: str) -> Any:
    """nf4 as the QLoRA paper has it (arXiv:2305.14314): double quantization, bfloat16 compute."""
    if quantize == "none":
        return None
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("bitsandbytes", "quantization") from error
    import torch
    from transformers import BitsAndBytesConfig

    if quantize == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _context(request: ModelRequest, folder: str) -> int:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=request.trust_remote_code, local_files_only=True)
    own = getattr(config.get_text_config(), "max_position_embeddings", None) or 1 << 20
    if request.context > own:
        raise InputError(f"--context {request.context} is more than the model's {own}", f"Take at most {own}")
    return int(request.context or own)


@contextlib.contextmanager
def _one_line_errors(name: str, request: ModelRequest) -> Iterator[None]:
    """What the libraries raise over a model's files, as one line; our own errors pass."""
    from safetensors import SafetensorError

    try:
        yield
    except LLMMagicsError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        memory = _out_of_memory(error)
        if memory is not None:
            traceback.clear_frames(error.__traceback__)
            raise memory from None
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if "trust_remote_code" in str(error):
            raise ModelFileError(
                f"{name} comes with Python code of its own",
                f"If you trust its author: %llm_load {request.model} --trust-remote-code",
            ) from error
        raise ModelFileError(f"{name} cannot be opened: {reason}") from error


_FULL = ("not enough memory", "out of memory", "can't allocate memory")


def _out_of_memory(error: BaseException) -> OutOfMemoryError | None:
    """The same as one line, or None where the error is another."""
    import torch

    text = str(error)
    if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and not (
        isinstance(error, RuntimeError) and any(words in text for words in _FULL)
    ):
        return None
    return OutOfMemoryError(
        "memory ran out; the session goes on",
        "Try a shorter prompt, --no-history, a smaller --max-new-tokens, or load the model with -q nf4",
    )


def _decoder(tokenizer: Any) -> Callable[[int], str]:
    """A function from each new token to the text that has become certain with it."""
    if tokenizer.is_fast:
        from tokenizers.decoders import DecodeStream

        stream = DecodeStream(skip_special_tokens=True)
        return lambda token: stream.step(tokenizer.backend_tokenizer, token) or ""
    seen: list[int] = []
    shown = ""

    def decode(token: int) -> str:
        # Tokenizers in pure Python have no incremental decoder: decode all, and wait for whole characters.
        nonlocal shown
        seen.append(token)
        text = tokenizer.decode(seen, skip_special_tokens=True)
        if text.endswith("\ufffd"):
            return ""
        new, shown = text[len(shown) :], text
        return str(new)

    return decode
