"""What showing an answer costs: at most 3 % over the same ``generate`` call without streamer and display.

Both run in turn in one process, a real kernel, on the same prompt and tokens (SmolLM2, greedy), while
a client takes every message off it, as a notebook's page would. Timed is the whole of each:
``show_answer`` from the question to the final card in place, and ``generate`` from call to return.
Which of the two goes first alternates. The median of the ratios of neighbours counts, and has to be within
the limit twice: by the clock, and by the processor time of the kernel's process, threads included. Other
processes disturb the clock, so what they took meanwhile is measured and told.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

TOKENS = 150
PAIRS = 11
LIMIT = 1.03
BUSY = 0.5
"""Share of each core, taken by others, from which on the clock says little."""

QUESTION = "Tell me a long story about a lighthouse keeper, a storm and a lost ship."


def both_ways(shell: Any) -> tuple[Callable[[], int], Callable[[], int]]:
    """Open the model, and return two functions that make the same tokens: plain, and shown. Each tells how many."""
    import torch

    from llm_magics import Session
    from llm_magics.display.answer import show_answer
    from llm_magics.values.asking import AskRequest
    from llm_magics.values.models import ModelRequest

    session = Session()
    session.load(ModelRequest("smollm2", engine="transformers"))
    engine: Any = session._models["smollm2"].engine
    request = AskRequest(temperature=0.0, repetition_penalty=1.1, max_new_tokens=TOKENS, history=False)
    text = session.ask(QUESTION, request).prompt.text
    model, tokenizer = engine._model, engine._tokenizer
    inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")

    def plain() -> int:
        with torch.inference_mode():
            ids = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=TOKENS,
                do_sample=False,
                repetition_penalty=1.1,
            )
        return ids.shape[1] - inputs["input_ids"].shape[1]

    def shown() -> int:
        return show_answer(session.ask(QUESTION, request), shell=shell).usage.new_tokens

    return plain, shown


def timed(run: Callable[[], int]) -> tuple[float, float, int]:
    """Seconds by the clock, seconds of processor time, and what the function returned."""
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = run()
    return time.perf_counter() - wall, time.process_time() - cpu, tokens


def measure(shell: Any) -> None:
    """Runs in the kernel."""
    in_turn(*both_ways(shell), PAIRS)


def in_turn(plain: Callable[[], int], shown: Callable[[], int], pairs: int) -> None:
    """Run both once, then in turn; print a JSON line a pair, plain first, whichever ran first."""
    plain()
    shown()
    for number in range(pairs):
        order = (plain, shown) if number % 2 == 0 else (shown, plain)
        results = {run: timed(run) for run in order}
        print("PAIR " + json.dumps([results[plain], results[shown]]), flush=True)


class Others:
    """What other processes, and other machines on the same cores, take while this one measures.

    Args:
        processes: those that are not others.
    """

    def __init__(self, *processes: psutil.Process) -> None:
        self._processes = processes
        self._begin = self._now()

    def share(self) -> float:
        """Processor time of others since the beginning, by the time that all cores together had."""
        total, idle, own = (now - then for now, then in zip(self._now(), self._begin, strict=True))
        return max(0.0, total - idle - own) / total

    def _now(self) -> tuple[float, float, float]:
        times = psutil.cpu_times()
        guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # counted in user already
        idle = times.idle + getattr(times, "iowait", 0.0)
        return sum(times) - guests, idle, sum(sum(one.cpu_times()[:2]) for one in self._processes)


def in_kernel(call: str, plain: str, shown: str) -> tuple[list[Any], int, float]:
    """Run a function of a script of this folder in a fresh kernel of this Python, and take every message off it.

    Args:
        call: such as ``streaming.measure(get_ipython())``; what it prints after ``PAIR`` is put into a table.
        plain: what the first of each pair is called there.
        shown: what the second is called.

    Returns:
        What the code printed after ``PAIR``, the number of messages that made up the display, and the
        share of the cores that others took.
    """
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import KernelManager

    class ThisPython(KernelSpecManager):
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            return KernelSpec(**get_kernel_dict())

    print(f"{'pair':>4}{plain:>10}{shown:>10}{'ratio':>8}{plain:>12}{shown:>10}{'ratio':>8}", flush=True)
    folder = str(Path(__file__).resolve().parent)
    code = f"import sys; sys.path.insert(0, {folder!r}); import {call.partition('.')[0]}; {call}"
    pairs: list[Any] = []
    painted = 0

    def hear(message: dict[str, Any]) -> None:
        nonlocal painted
        content = message["content"]
        painted += message["msg_type"] in ("comm_msg", "comm_open", "display_data", "update_display_data")
        for line in content.get("text", "").splitlines():
            if line.startswith("PAIR "):
                pairs.append(json.loads(line.removeprefix("PAIR ")))
                print(row(len(pairs), *pairs[-1]), flush=True)
        if message["msg_type"] == "error":
            print("\n".join(content["traceback"]))

    manager: Any = KernelManager(kernel_spec_manager=ThisPython())
    manager.start_kernel(extra_arguments=["--IPKernelApp.log_level=40"])
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=120)
        others = Others(psutil.Process(), psutil.Process(manager.provisioner.pid))
        client.execute_interactive(code, output_hook=hear, allow_stdin=False)
        share = others.share()
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return pairs, painted, share


def row(number: int, plain: list[float], shown: list[float]) -> str:
    """One pair as a line of the table."""
    wall, cpu = shown[0] / plain[0], shown[1] / plain[1]
    return f"{number:>4}{plain[0]:>10.2f}{shown[0]:>10.2f}{wall:>8.3f}{plain[1]:>12.2f}{shown[1]:>10.2f}{cpu:>8.3f}"


def ratios(pairs: list[Any], limit: float, others: float) -> tuple[float, float]:
    """Print what came of the pairs; the median ratios by the clock and by processor time."""
    medians = []
    for i, what in enumerate(("by the clock", "by processor time")):
        low, median, high = statistics.quantiles((shown[i] / plain[i] for plain, shown in pairs), n=4)
        print(f"{what:<18} median ratio {median:.3f}, half of the pairs from {low:.3f} to {high:.3f}; at most {limit}")
        medians.append(median)
    print(f"other processes took {others:.2f} of each core meanwhile")
    return medians[0], medians[1]


def main() -> int:
    """Measure, print a table; 1 where showing costs more than the limit, by the clock or by processor time."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    print(f"SmolLM2, {TOKENS} tokens, {PAIRS} pairs in one kernel; s by the clock, s of processor time\n")
    pairs, painted, others = in_kernel("streaming.measure(get_ipython())", "generate", "shown")
    if len(pairs) < PAIRS:
        print("the kernel did not come to its end")
        return 1
    if {tokens for pair in pairs for _, _, tokens in pair} != {TOKENS}:
        print("the two did not make the same number of tokens")
        return 1
    print()
    medians = ratios(pairs, LIMIT, others)
    print(f"{painted / (PAIRS + 1):.0f} display messages an answer")
    if others > BUSY:
        print(f"that is above {BUSY}: the clock was disturbed, so measure again on a quiet machine")
    good = max(medians) <= LIMIT
    print("within the limit" if good else "above the limit")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
