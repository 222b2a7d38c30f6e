"""The magics for models: ``%llm_load``, ``%llm_unload``, ``%llm_login``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..errors import InputError
from .declare import MagicGroup, magic
from .parsing import Parser, one_of, whole_number

if TYPE_CHECKING:
    from ..values.models import ModelInfo, ModelRequest

_COLUMNS = ("name", "model", "engine", "device", "parameters", "weights", "memory", "cached", "context")


def _load_options(parser: Parser) -> None:
    add = parser.add_argument
    add(
        "model",
        nargs="?",
        default="",
        metavar="MODEL",
        help="alias, Hub id, folder, .gguf file, tuned model, or NAME@http://host:8000/v1",
    )
    add("--as", dest="name", default="", metavar="NAME", help="what to call it")
    engine = one_of("auto", "transformers", "llamacpp", "server")
    add(
        "--engine", type=engine, default="auto", metavar="ENGINE", help="auto, transformers, llamacpp (.gguf) or server"
    )
    quantize = one_of("auto", "nf4", "int8", "none")
    add("-q", "--quantize", type=quantize, default="auto", metavar="WAY", help="auto, nf4 (4-bit), int8 or none")
    dtype = one_of("auto", "float32", "bfloat16", "float16")
    add("--dtype", type=dtype, default="auto", metavar="TYPE", help="auto, float32, bfloat16 or float16")
    add("--device-map", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:0")
    add("--adapter", default="", metavar="PATH", help="LoRA adapter to put on it, such as finetuned/my-tuned")
    add("--revision", default="", metavar="REV", help="branch, tag or commit on the Hub")
    add("--chat-template", default="", metavar="NAME|FILE", help="llama-2, chatml, zephyr, alpaca, guanaco or a file")
    add(
        "--context",
        type=whole_number("2048", 1),
        default=0,
        metavar="N",
        help="tokens of a prompt with its answer",
    )
    add("--trust-remote-code", action="store_true", help="lets Python code that comes with the model run")


def _unload_options(parser: Parser) -> None:
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="the one loaded last unless given")


class ModelMagics(MagicGroup):
    """Opening and closing models."""

    @magic(
        "llm_load",
        "line",
        options=_load_options,
        examples=[
            "%llm_load smollm2",
            "%llm_load meta-llama/Llama-2-7b-chat-hf -q nf4 --as llama",
            "%llm_load Qwen/Qwen3-32B@http://gpu.example.org:8000/v1 --as qwen",
        ],
    )
    def llm_load(self, args: argparse.Namespace) -> None:
        """Open a model in this session, replacing the one of that name; alone, show what is open."""
        if not args.model:
            return self._show_models()
        info = self.session.load(_request(args), name=args.name)
        again = "" if info.seconds else " already"
        if not args.silent:
            print(f"{info.name} is open{again}: {', '.join(_figures(info))}")
        return None

    @magic("llm_unload", "line", options=_unload_options, examples=["%llm_unload", "%llm_unload llama"])
    def llm_unload(self, args: argparse.Namespace) -> None:
        """Close a model, and show the memory that came back."""
        freed = self.session.unload(args.name)
        if args.silent:
            return
        back = max(0, freed.before - freed.after)
        left = self.session.models
        held = f"; {' and '.join(freed.sharing)} still {'holds' if len(freed.sharing) == 1 else 'hold'} its weights"
        print(
            f"{freed.name} is closed: {_size(back)} of {freed.place} came back "
            f"({_size(freed.before)} before, {_size(freed.after)} now){held if freed.sharing else ''}"
            + (f"; {left[-1].name} is still open and answers next" if left else "")
        )

    @magic(
        "llm_login",
        "line",
        options=lambda parser: None,
        prompt="nothing",
        examples=["%llm_login", "%llm_login --help"],
    )
    def llm_login(self, args: argparse.Namespace) -> None:
        """Log in to the Hugging Face Hub, for gated and private models; asks for the token, never shows it."""
        if args.text:  # the text may be a token: it is not repeated
            raise InputError("%llm_login takes nothing on its line", "Type %llm_login alone: the token is asked for")
        self.session.login()

    def _show_models(self) -> None:
        from ..display.tables import show_table

        models = self.session.models
        rows = [
            (
                info.name,
                _model(info),
                info.engine,
                info.device,
                _count(info.parameters),
                _weights(info),
                _size(info.memory) if info.memory or info.engine != "server" else "-",
                _size(info.cached) if info.cached else "",
                info.context,
            )
            for info in reversed(models)
        ]
        note = (
            f"{models[-1].name} answers where no -m is given"
            if models
            else f"nothing is open; %llm_load {self.session.settings.default_model} works without a network"
        )
        show_table("%llm_load", _COLUMNS, rows, shell=self.shell, note=note)


def _request(args: argparse.Namespace) -> ModelRequest:
    from ..values.models import ModelRequest

    return ModelRequest(
        args.model,
        engine=args.engine,
        quantize=args.quantize,
        dtype=args.dtype,
        device_map=args.device_map,
        revision=args.revision,
        chat_template=args.chat_template,
        context=args.context,
        trust_remote_code=args.trust_remote_code,
        adapter=args.adapter,
    )


def _figures(info: ModelInfo) -> list[str]:
    if info.engine == "server":
        return [f"on the server {info.device}", f"context {info.context}"]
    return [
        f"{_count(info.parameters)} parameters",
        f"{_weights(info)} on {info.device}, by {info.engine}",
        _size(info.memory),
        f"context {info.context}",
        *([f"{info.seconds:.1f} s"] if info.seconds else []),
    ]


def _model(info: ModelInfo) -> str:
    """The last part of an id or a path; of a server's model, without the address."""
    return info.source.partition("@http")[0].rpartition("/")[2]


def _weights(info: ModelInfo) -> str:
    if not info.dtype:
        return "-"  # a server does not tell
    return info.dtype if info.quantization == "none" else f"{info.quantization} + {info.dtype}"


def _count(number: int) -> str:
    """``135 M``, ``6.7 B``; a dash where it is not known."""
    if not number:
        return "-"
    return f"{number / 1e9:.1f} B" if number >= 1e9 else f"{number / 1e6:.0f} M"


def _size(size: int) -> str:
    """``0.54 GB``, ``98 MB``."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"
