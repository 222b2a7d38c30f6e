"""What llama.cpp is worth on a CPU, with SmolLM2 in one process, its ways in turn.

- Tokens a second: at least 5 times those of transformers' ``pipeline`` as tutorials use it (float32, temperature 0.1,
  repetition penalty 1.1, streamed), and at least 0.95 of what the bare binding gives with the same file and threads.
- Seconds to the first token of a new prompt of 500 tokens: at most 1.1 times the pipeline's.
- The second opening of ``smollm2`` in a new process: at most 1.5 seconds to the first token, imports included.

Medians count, of seconds by the clock. Other processes disturb the clock: where they took more than half a core
meanwhile, seconds of processor time count, those of all threads. Both are shown.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psutil

from llm_magics.engines import llamacpp, transformers
from llm_magics.engines.resolve import resolve
from llm_magics.engines.threads import physical_cores
from llm_magics.values.asking import GenerationOptions
from llm_magics.values.models import ModelRequest

ROUNDS = 5
TOKENS = 40
BUSY = 0.5  # cores that others took, from which on the clock says little
OPTIONS = GenerationOptions(temperature=0.1, repetition_penalty=1.1, max_new_tokens=TOKENS, seed=1)
SENTENCE = "The keeper of the lighthouse wrote down the wind, the height of the waves and the ships that passed. "


@dataclass
class Timing:
    """One answer: seconds by the clock and of processor time, to the first token and to the last, and its tokens."""

    first: tuple[float, float]
    whole: tuple[float, float]
    tokens: int

    def speed(self, clock: int) -> float:
        return (self.tokens - 1) / (self.whole[clock] - self.first[clock])


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def timed(tokens: Iterator[Any]) -> Timing:
    """Time a stream that gives something for each token."""
    begin, first, count = now(), (0.0, 0.0), 0
    for _ in tokens:
        count += 1
        if count == 1:
            first = now()
    end = now()
    return Timing((first[0] - begin[0], first[1] - begin[1]), (end[0] - begin[0], end[1] - begin[1]), count)


def of_pipeline() -> Callable[[str], Iterator[Any]]:
    """The pipeline, streamed as tutorials do it: ``generate`` in a thread, its tokens through a queue."""
    from transformers import TextIteratorStreamer, pipeline

    class Tokens(TextIteratorStreamer):
        """Hands every token over, not only whole words."""

        def put(self, value: Any) -> None:
            if self.next_tokens_are_prompt:
                self.next_tokens_are_prompt = False
            else:
                self.on_finalized_text("x")

        def end(self) -> None:
            self.on_finalized_text("", stream_end=True)

    engine = transformers.open_model(resolve("smollm2"), ModelRequest("smollm2", engine="transformers"))
    tokenizer = engine._tokenizer
    generate = pipeline("text-generation", model=engine._model, tokenizer=tokenizer, return_full_text=False)

    def run(text: str) -> Iterator[Any]:
        streamer = Tokens(tokenizer)
        options: dict[str, Any] = {"temperature": 0.1, "repetition_penalty": 1.1, "do_sample": True}
        options |= {"min_new_tokens": TOKENS, "max_new_tokens": TOKENS}
        options |= {"streamer": streamer, "add_special_tokens": False}
        thread = threading.Thread(target=generate, args=(text,), kwargs=options)
        thread.start()
        yield from (token for token in streamer if token)
        thread.join()

    return run


def of_binding(file: str) -> Callable[[str], Iterator[Any]]:
    """xllamacpp alone, with a callback for each token."""
    import queue
    import tempfile

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.verbosity, params.n_ctx, params.fit_params = file, -1, 8192, False
    params.hostnames = [f"{tempfile.mkdtemp()}/s.sock"]
    params.cpuparams.n_threads, params.cpuparams_batch.n_threads = 1, physical_cores()
    server = xllamacpp.Server(params)

    def run(text: str) -> Iterator[Any]:
        tokens: queue.SimpleQueue[Any] = queue.SimpleQueue()
        request = {"prompt": text, "stream": True, "max_tokens": TOKENS, "temperature": 0.1, "ignore_eos": True}
        request |= {
            "repeat_penalty": 1.1,
            "repeat_last_n": 8192,
            "top_k": 50,
            "samplers": ["penalties", "temperature", "top_k", "top_p"],
        }

        def work() -> None:
            server.handle_completions(request, lambda reply: tokens.put(reply["choices"][0]["text"]))
            tokens.put(None)

        thread = threading.Thread(target=work)
        thread.start()
        while (token := tokens.get()) is not None:
            if token:
                yield token
        thread.join()

    return run


def ours(engine: Any, text: str) -> Iterator[Any]:
    from llm_magics.values.messages import Prompt

    for chunk in engine.stream(Prompt((), text, 0), OPTIONS, threading.Event()):
        if chunk.text:
            yield chunk


def story(number: int, sentences: int) -> str:
    """A prompt with a beginning of its own, which asks for a text that goes on."""
    text = f"Note {number}. " + SENTENCE * sentences + "Write a long story about it."
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


class Busy:
    """How many cores other processes took while the block ran."""

    def __enter__(self) -> Busy:
        self._others, self._begin = self._sum(), time.perf_counter()
        return self

    def __exit__(self, *unused: object) -> None:
        self.cores = max(0.0, (self._sum() - self._others) / (time.perf_counter() - self._begin))

    @staticmethod
    def _sum() -> float:
        times = psutil.cpu_times()
        return sum(times) - times.idle - times.iowait - time.process_time()


failed: list[str] = []


def judge(what: str, values: tuple[float, float], limit: float, busy: float, *, least: bool = False) -> None:
    """Print one claim, with both clocks, and note it where it does not hold."""
    value = values[1] if busy > BUSY else values[0]
    holds = value >= limit if least else value <= limit
    counted = "processor time" if busy > BUSY else "clock"
    print(
        f"{'ok    ' if holds else 'FAILED'} {what}: {values[0]:.3f} by the clock, {values[1]:.3f} by processor time; "
        f"{'at least' if least else 'at most'} {limit} by {counted}"
    )
    if not holds:
        failed.append(what)


def ratio(one: list[Timing], other: list[Timing], figure: Callable[[Timing, int], float]) -> tuple[float, float]:
    """Median of the ratios of neighbours, by the clock and by processor time."""
    wall, cpu = (
        statistics.median(figure(a, clock) / figure(b, clock) for a, b in zip(one, other, strict=True))
        for clock in (0, 1)
    )
    return wall, cpu


def speed(engine: Any, file: str) -> None:
    ways = {"pipeline": of_pipeline(), "ours": lambda text: ours(engine, text), "binding": of_binding(file)}
    short: dict[str, list[Timing]] = {name: [] for name in ways}
    long: dict[str, list[Timing]] = {name: [] for name in ways}
    with Busy() as busy:
        for number in range(-1, ROUNDS):
            for name, run in ways.items():
                for results, sentences in ((short, 1), (long, 22)):
                    timing = timed(run(story(number, sentences)))
                    if number >= 0:  # the first round is for warming up
                        results[name].append(timing)
    print(f"others took {busy.cores:.1f} of {psutil.cpu_count()} cores")
    for name, timings in short.items():
        figures = [statistics.median(timing.speed(clock) for timing in timings) for clock in (0, 1)]
        print(f"       {name}: {figures[0]:.1f} tokens a second by the clock, {figures[1]:.1f} by processor time")
    judge("tokens a second, ours to the pipeline's", ratio(short["ours"], short["pipeline"], Timing.speed), 5.0,
          busy.cores, least=True)  # fmt: skip
    judge("tokens a second, ours to the bare binding's", ratio(short["ours"], short["binding"], Timing.speed), 0.95,
          busy.cores, least=True)  # fmt: skip
    first = ratio(long["ours"], long["pipeline"], lambda timing, clock: timing.first[clock])
    judge("seconds to the first token of 500, ours to the pipeline's", first, 1.1, busy.cores)


OPENING = """
import time
begin = time.perf_counter(), time.process_time()
import threading
from llm_magics import ModelRequest, Session
from llm_magics.values.asking import GenerationOptions
from llm_magics.values.messages import Message
session = Session(say=lambda line: None)
session.load(ModelRequest("smollm2", engine="llamacpp"))
engine = session._models["smollm2"].engine
prompt = engine.render([Message("user", "What is a llama?")])
next(engine.stream(prompt, GenerationOptions(), threading.Event()))
print(time.perf_counter() - begin[0], time.process_time() - begin[1])
"""


def opening() -> None:
    with Busy() as busy:
        runs = [
            subprocess.run([sys.executable, "-c", OPENING], capture_output=True, text=True, check=True).stdout.split()
            for _ in range(3)
        ]
    wall, cpu = (statistics.median(float(run[clock]) for run in runs) for clock in (0, 1))
    judge("seconds from import to the first token, second opening", (wall, cpu), 1.5, busy.cores)


def main() -> int:
    prepared = llamacpp.prepare(resolve("smollm2"), ModelRequest("smollm2", engine="llamacpp"), say=print)
    opening()
    engine = llamacpp.load(prepared)
    speed(engine, str(prepared.file))
    engine.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
