"""What a large model answers on one GPU: models of Llama's shape with 7 and 13 billion random weights, bf16 and nf4.

Tokens a second of one stream and of 32 at once, against transformers' ``pipeline`` with the same weights, against
``generate`` with a static cache (which transformers compiles on CUDA), and against what the memory's bandwidth
allows: a token reads every weight once. Goals: one stream in bf16 at least 0.6 of that limit; nf4 at least twice the
pipeline's.

Without a GPU nothing is measured. ``--tiny`` runs the same steps with models of two layers on any machine, as a test
of this script: its figures say nothing.

This script has not been run on a GPU yet: there was none at hand. docs/benchmarks.md says so too.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from llm_magics.engines.base import BatchEngine
from llm_magics.engines.memory import give_back
from llm_magics.engines.resolve import resolve
from llm_magics.engines.transformers import open_model
from llm_magics.values.asking import GenerationOptions
from llm_magics.values.messages import Message, Prompt
from llm_magics.values.models import ModelRequest

# Llama 2 (Touvron et al. 2023, arXiv:2307.09288, table 1); the vocabulary is that of the tokenizer at hand.
SHAPES = {
    "7B": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
    "13B": {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40},
}
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
QUESTION = "Tell me a long story about a lighthouse keeper, a storm and a lost ship."
STREAMS = 32


def main() -> int:
    """Measure every shape in every type of weights, and print a table for docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description="Tokens a second of large random models on one GPU.")
    parser.add_argument("--tiny", action="store_true", help="two layers, on any machine: a test of this script")
    parser.add_argument("--sizes", default="7B,13B", help="7B, 13B or both")
    parser.add_argument("--tokens", type=int, default=0, help="length of each answer; 128 unless given, 4 with --tiny")
    args = parser.parse_args()
    import torch

    if not args.tiny and not torch.cuda.is_available():
        print("not measured: this machine has no GPU that PyTorch can use; --tiny tests the script")
        return 0
    tokens = args.tokens or (4 if args.tiny else 128)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    bandwidth = memory_bandwidth(device, 2**22 if args.tiny else 2**30)
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU {platform.machine()}"
    print(f"{datetime.date.today()}, {name}, torch {torch.__version__}, memory {bandwidth / 1e9:.0f} GB/s")
    print(row("model", "way", "tok/s", "of the limit", "to the pipeline", "peak memory"))
    good = True
    for size in args.sizes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            make(TINY if args.tiny else SHAPES[size], device, folder)
            for quantize in ("none", "nf4"):
                good &= measure(size, folder, quantize, device, bandwidth, tokens)
    print("figures of --tiny say nothing" if args.tiny else "goals reached" if good else "below a goal")
    return 0 if args.tiny or good else 1


def memory_bandwidth(device: str, size: int) -> float:
    """Bytes a second that the device's memory reads and writes, by copying ``size`` bytes."""
    import torch

    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        for _ in range(10):
            target.copy_(source)

    copy()
    return 20 * size / seconds(copy, device)


def seconds(work: Callable[[], object], device: str) -> float:
    """What some work takes by the clock, until the device is done."""
    import torch

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    wait()
    begin = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - begin


def make(shape: dict[str, int], device: str, folder: str) -> None:
    """Write a model of this shape with random weights, and SmolLM2's tokenizer, to a folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    small = open_model(resolve("smollm2"), ModelRequest("smollm2", engine="transformers"))
    tokenizer = small._tokenizer
    sizes: dict[str, Any] = {**shape, "vocab_size": len(tokenizer), "max_position_embeddings": 4096}
    config = LlamaConfig(**sizes, dtype="bfloat16")
    config.eos_token_id = None  # random weights end at random
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    del model
    small.close()


def measure(size: str, folder: str, quantize: str, device: str, bandwidth: float, tokens: int) -> bool:
    """All ways to ask one model. Returns whether the goal for its type of weights is reached."""
    request = ModelRequest(folder, engine="transformers", quantize=quantize, dtype="bfloat16", device_map=device)
    engine = open_model(resolve(folder), request)
    model = engine._model
    read = model.get_memory_footprint() - model.get_input_embeddings().weight.nbytes  # of those a token reads one row
    limit = bandwidth / read
    prompt = engine.render([Message("user", QUESTION)])
    speeds: dict[str, float] = {}
    for way, streams, run in ways(engine, prompt, tokens):
        run()  # compiles, and fills caches
        reset_peak(device)
        engine._prefixes.clear()
        speeds[way] = streams * tokens / seconds(run, device)
        base = speeds.get("pipeline, 32" if streams > 1 else "pipeline", 0.0)
        ratio = f"{speeds[way] / base:.2f}" if base else "-"
        share = f"{speeds[way] / limit:.3f}" if streams == 1 else "-"
        kind = "bf16" if quantize == "none" else quantize
        print(row(f"{size} {kind}", way, f"{speeds[way]:.1f}", share, ratio, peak(device)), flush=True)
    engine.close()
    give_back()
    best = max(speeds["engine"], speeds["generate, static cache"])
    return best >= (0.6 * limit if quantize == "none" else 2 * speeds["pipeline"])


def ways(engine: Any, prompt: Prompt, tokens: int) -> Iterator[tuple[str, int, Callable[[], object]]]:
    """Name, number of streams, and a function that answers. The tutorial's pipeline first."""
    import torch
    from transformers import pipeline

    model, tokenizer = engine._model, engine._tokenizer
    generate = pipeline("text-generation", model=model, tokenizer=tokenizer, return_full_text=False)
    sampling = {"do_sample": True, "temperature": 0.1, "repetition_penalty": 1.1, "max_new_tokens": tokens}
    options = GenerationOptions(temperature=0.1, repetition_penalty=1.1, max_new_tokens=tokens, seed=1)
    inputs = tokenizer(prompt.text, add_special_tokens=False, return_tensors="pt").to(model.device)

    def static() -> None:
        with torch.inference_mode():
            model.generate(**inputs, **sampling, cache_implementation="static")

    yield "pipeline", 1, lambda: generate(prompt.text, **sampling)
    yield "engine", 1, lambda: list(engine.stream(prompt, options, threading.Event()))
    yield "generate, static cache", 1, static
    tokenizer.padding_side, tokenizer.pad_token = "left", tokenizer.pad_token or tokenizer.eos_token
    texts = [prompt.text] * STREAMS
    yield f"pipeline, {STREAMS}", STREAMS, lambda: generate(texts, batch_size=STREAMS, **sampling)
    if isinstance(engine, BatchEngine):
        prompts = [prompt] * STREAMS
        yield f"engine, {STREAMS}", STREAMS, lambda: list(engine.stream_batch(prompts, options, threading.Event()))


def reset_peak(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak(device: str) -> str:
    """The most memory that was taken: on the GPU, or of this process since it began."""
    import resource

    import torch

    if device == "cuda":
        return f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB"


def row(*cells: str) -> str:
    """A line of the table, in Markdown."""
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
