"""Models through Hugging Face transformers: safetensors folders, Hub ids and GGUF files.

``open_model`` finds, checks and loads; ``TransformersEngine`` answers. ``generate`` runs in a
thread of its own and hands every token over, so that a stream can be stopped at any of them.
Chat templates are the tokenizer's own; the rendered text already holds the special tokens, so it
is encoded without adding any, and a BOS token can never be there twice.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import (
    ContextLengthError,
    InputError,
    LLMMagicsError,
    MissingPackageError,
    ModelError,
    ModelFileError,
    OutOfMemoryError,
)
from ..messages import GenerationOptions, Message, ModelRequest, Prompt
from ..results import Chunk, ModelInfo, StopReason, Usage
from .memory import Weights, check_fits, free_bytes, give_back
from .quiet import quiet
from .resolve import Source
from .stop_texts import StopTexts


def open_model(
    source: Source, request: ModelRequest, *, say: Callable[[str], None] = lambda line: None
) -> TransformersEngine:
    """Load a model.

    Args:
        source: where it lies, from ``resolve``.
        request: how to load it.
        say: told in one line what takes long.

    Raises:
        ModelError: one of its kinds: not found, gated, damaged, too large.
        MissingPackageError: torch, transformers or bitsandbytes is not installed.
    """
    begin = time.perf_counter()
    torch = _import_torch()
    device = _device(request.device_map, torch)
    whole = request.dtype if request.dtype != "auto" else _natural_dtype(device, torch)
    quantize, dtype = request.quantize, whole

    def check(weights: Weights) -> None:
        nonlocal quantize, dtype
        if quantize == "auto":
            tight = device.startswith("cuda") and weights.bytes("none", whole) > free_bytes(device)
            quantize = "nf4" if tight else "none"
        if quantize != "none" and request.dtype == "auto":
            # What stays unquantized is in 16 bits; bitsandbytes' int8 computes in float16.
            dtype = "float16" if quantize == "int8" else "bfloat16"
        check_fits(source.name, weights, quantize, dtype, device)

    folder = _folder(source, request, whole, check, say)
    check(_count_weights(folder))
    with _one_line_errors(source.name, request), quiet():
        tokenizer, model = _load(folder, request, quantize, dtype, device)
    if request.chat_template:
        tokenizer.chat_template = request.chat_template
    context = _context(request.context, model, tokenizer)
    info = ModelInfo(
        name=source.name,
        source=source.location,
        engine="transformers",
        device=str(model.device),
        dtype=dtype,
        quantization=quantize,
        parameters=model.num_parameters(),
        memory=model.get_memory_footprint(),
        context=context,
        seconds=time.perf_counter() - begin,
    )
    return TransformersEngine(model, tokenizer, info)


class TransformersEngine:
    """A causal language model of transformers with its tokenizer.

    Args:
        model: in eval mode, on its device.
        tokenizer: its tokenizer.
        info: its figures; ``context`` bounds prompt plus answer.
    """

    def __init__(self, model: Any, tokenizer: Any, info: ModelInfo) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._info = info

    def info(self) -> ModelInfo:
        """The open model in figures."""
        return self._info

    def render(self, messages: Sequence[Message]) -> Prompt:
        """The exact text after the chat template, and its length in tokens.

        Raises:
            ModelError: the tokenizer has no chat template, or refuses these messages.
        """
        from jinja2 import TemplateError

        if not self._tokenizer.chat_template:
            raise ModelError(
                f"{self._info.name} has no chat template: it is a base model",
                f"Type %llm_load {self._info.source} --chat-template guanaco, or llama-2, chatml, zephyr, alpaca",
            )
        try:
            text = self._apply_template(messages)
        except TemplateError as error:
            if messages[0].role != "system":
                raise ModelError(f"the chat template refuses this conversation: {error}") from error
            # Some templates (Gemma's, Mistral's first) have no system role: it then opens the first turn.
            first = Message(messages[1].role, f"{messages[0].content}\n\n{messages[1].content}")
            text = self._apply_template([first, *messages[2:]])
        return Prompt(tuple(messages), text, len(self._encode(text)))

    def _apply_template(self, messages: Sequence[Message]) -> str:
        turns = [message.as_dict() for message in messages]
        return str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def stream(self, prompt: Prompt, options: GenerationOptions, stop: threading.Event) -> Iterator[Chunk]:
        """Answer, token by token. See ``Engine.stream``."""
        ids = self._encode(prompt.text)
        room = self._room(len(ids))
        begin, first, count = time.perf_counter(), 0.0, 0
        halt = threading.Event()
        tokens: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
        arguments = (ids, options, min(room, options.max_new_tokens), lambda: stop.is_set() or halt.is_set(), tokens)
        thread = threading.Thread(target=self._generate, args=arguments, name="llm_magics generate", daemon=True)
        thread.start()
        decode, cut, last = _decoder(self._tokenizer), StopTexts(options.stop), None
        reason: StopReason | None = None
        try:
            while (token := tokens.get()) is not None:
                if isinstance(token, BaseException):
                    raise token
                count, last = count + 1, token
                first = first or time.perf_counter() - begin
                text = cut.push(decode(token))
                if cut.found:
                    reason = "stop"
                    break
                if text:
                    yield Chunk(text, Usage(len(ids), count, first, time.perf_counter() - begin))
        finally:
            halt.set()
            thread.join()
        if reason is None:
            text = cut.flush()
            reason = "end" if last in self._end_tokens() else "stopped" if stop.is_set() else "length"
        yield Chunk(text, Usage(len(ids), count, first, time.perf_counter() - begin), reason)

    def _generate(
        self,
        ids: list[int],
        options: GenerationOptions,
        max_new_tokens: int,
        stopped: Callable[[], bool],
        tokens: queue.SimpleQueue[int | BaseException | None],
    ) -> None:
        """Runs in a thread: puts each token, then an exception where there was one, then None."""
        try:
            self._call_generate(ids, options, max_new_tokens, stopped, tokens)
        except Exception as error:
            shown = _out_of_memory(error)
            if shown is not None:
                # The traceback's frames hold the tensors that filled the memory.
                traceback.clear_frames(error.__traceback__)
                error.__traceback__ = None
            tokens.put(shown or error)
            if shown is not None:
                give_back()
        finally:
            tokens.put(None)

    def _call_generate(
        self,
        ids: list[int],
        options: GenerationOptions,
        max_new_tokens: int,
        stopped: Callable[[], bool],
        tokens: queue.SimpleQueue[int | BaseException | None],
    ) -> None:
        import torch
        from transformers import StoppingCriteria, StoppingCriteriaList
        from transformers.generation.streamers import BaseStreamer

        class Handover(BaseStreamer):
            prompt_seen = False

            def put(self, value: Any) -> None:
                if self.prompt_seen:
                    tokens.put(int(value))
                self.prompt_seen = True

            def end(self) -> None:
                """The stream's end is put by ``_generate``, after an exception too."""

        class Stopped(StoppingCriteria):
            def __call__(self, input_ids: Any, scores: Any, **unused: Any) -> Any:
                return torch.full((input_ids.shape[0],), stopped(), device=input_ids.device, dtype=torch.bool)

        inputs = torch.tensor([ids], device=self._model.device)
        sampling = {} if options.greedy else {"temperature": options.temperature, "top_p": options.top_p}
        with quiet(), torch.random.fork_rng(), torch.inference_mode():  # the user's random state stays as it was
            torch.manual_seed(secrets.randbits(63) if options.seed is None else options.seed)
            self._model.generate(
                input_ids=inputs,
                attention_mask=torch.ones_like(inputs),
                max_new_tokens=max_new_tokens,
                do_sample=not options.greedy,
                repetition_penalty=options.repetition_penalty,
                pad_token_id=self._pad_token(),
                streamer=Handover(),
                stopping_criteria=StoppingCriteriaList([Stopped()]),
                **sampling,
            )

    def score(self, prompt: Prompt, choices: Sequence[str]) -> tuple[float, ...]:
        """Probability of each choice as the answer, by the model's own probabilities of its tokens.

        Each choice ends with the model's end token, so that ``pos`` does not win over
        ``positive`` by being shorter.

        Args:
            prompt: from ``render``.
            choices: the possible answers, at least one.

        Returns:
            One number a choice; they sum to 1.

        Raises:
            ContextLengthError: prompt and longest choice are longer than the context.
            OutOfMemoryError: the model stays usable.
        """
        import torch

        ids = self._encode(prompt.text)
        end = self._end_tokens()[:1]
        answers = [self._encode(choice) + end for choice in choices]
        self._room(len(ids) + max(map(len, answers)))
        try:
            with quiet(), torch.inference_mode():
                totals = [self._log_probability(ids, answer) for answer in answers]
        except Exception as error:
            shown = _out_of_memory(error)
            if shown is None:
                raise
            traceback.clear_frames(error.__traceback__)
            raise shown from None
        return tuple(torch.softmax(torch.tensor(totals), dim=0).tolist())

    def _log_probability(self, prompt: list[int], answer: list[int]) -> float:
        import torch

        inputs = torch.tensor([prompt + answer], device=self._model.device)
        logits = self._model(inputs, logits_to_keep=len(answer) + 1).logits[0, :-1].float()
        return float(torch.log_softmax(logits, dim=-1).gather(1, inputs[0, -len(answer) :, None]).sum())

    def _room(self, length: int) -> int:
        """Tokens left for the answer."""
        room = self._info.context - length
        if room < 1:
            raise ContextLengthError(
                f"the prompt is {length} tokens, {1 - room} too many",
                f"{self._info.name} reads {self._info.context} together with its answer",
            )
        return room

    def _end_tokens(self) -> list[int]:
        ends = self._model.generation_config.eos_token_id
        if ends is None:
            ends = self._tokenizer.eos_token_id
        return ends if isinstance(ends, list) else [] if ends is None else [ends]

    def _pad_token(self) -> int | None:
        pad = self._tokenizer.pad_token_id
        return pad if pad is not None else next(iter(self._end_tokens()), None)

    def close(self) -> None:
        """Free the weights."""
        self._model = self._tokenizer = None
        give_back()


def _import_torch() -> Any:
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(error.name or "torch", "transformers") from error
    return torch


def _device(wanted: str, torch: Any) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(wanted).type
    except RuntimeError as error:
        raise InputError(f"--device-map {wanted} is no device", "It takes auto, cpu, cuda or cuda:0") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device-map {wanted} needs a CUDA GPU, and torch finds none", "Leave it out for the CPU")
    return wanted


def _natural_dtype(device: str, torch: Any) -> str:
    if device == "cpu":
        return "float32"
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


def _load(folder: str, request: ModelRequest, quantize: str, dtype: str, device: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    code = {"trust_remote_code": request.trust_remote_code, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(folder, **code)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=getattr(torch, dtype),
        device_map="auto" if device == "cuda" else device,
        quantization_config=_quantization(quantize),
        use_safetensors=True,
        **code,
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


def _context(wanted: int, model: Any, tokenizer: Any) -> int:
    config = model.config.get_text_config()
    own = getattr(config, "max_position_embeddings", None) or min(tokenizer.model_max_length, 1 << 20)
    if wanted > own:
        raise InputError(f"--context {wanted} is more than the model's {own}", f"Take at most {own}")
    return int(wanted or own)


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
