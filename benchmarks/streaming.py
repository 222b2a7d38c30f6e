"""What showing an answer costs: at most 3 % over the same ``generate`` call without streamer and display.

Both run in turn in one process, a real kernel, on the same prompt and tokens (SmolLM2, greedy), while
a client takes every message off it, as a notebook's page would. Timed is the whole of each:
``show_answer`` from the question to the final card in place, and ``generate`` from call to return.
The median of the ratios of neighbours counts: by the clock, and, since a busy machine disturbs the
clock, by the processor time of the kernel's process, threads included.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOKENS = 150
PAIRS = 9
LIMIT = 1.03
QUESTION = "Tell me a long story about a lighthouse keeper, a storm and a lost ship."


def both_ways(shell: Any) -> tuple[Callable[[], int], Callable[[], int]]:
    """Open the model, and return two functions that make the same tokens: plain, and shown. Each tells how many."""
    import torch

    from llm_magics import Session
    from llm_magics.display.answer import show_answer
    from llm_magics.engines.resolve import resolve
    from llm_magics.engines.transformers import open_model
    from llm_magics.messages import AskRequest, ModelRequest

    engine = open_model(resolve("smollm2"), ModelRequest("smollm2"))
    session = Session()
    session.add("smollm2", engine)
    request = AskRequest(temperature=0.0, repetition_penalty=1.1, max_new_tokens=TOKENS, history=False)
    text = session.llm(QUESTION, request).prompt.text
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
        return show_answer(session.llm(QUESTION, request), shell=shell).usage.new_tokens

    return plain, shown


def timed(run: Callable[[], int]) -> tuple[float, float, int]:
    """Seconds by the clock, seconds of processor time, and what the function returned."""
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = run()
    return time.perf_counter() - wall, time.process_time() - cpu, tokens


def measure(shell: Any) -> None:
    """Runs in the kernel: prints one JSON line a pair, plain first, whichever ran first."""
    plain, shown = both_ways(shell)
    plain()
    shown()
    for number in range(PAIRS):
        order = (plain, shown) if number % 2 == 0 else (shown, plain)
        results = {run: timed(run) for run in order}
        print("PAIR " + json.dumps([results[plain], results[shown]]), flush=True)


def in_kernel(code: str) -> tuple[list[Any], int]:
    """Run code in a fresh kernel of this Python and take every message off it.

    Returns:
        What the code printed after ``PAIR``, and the number of messages that made up the display.
    """
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import KernelManager

    class ThisPython(KernelSpecManager):
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            return KernelSpec(**get_kernel_dict())

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

    manager = KernelManager(kernel_spec_manager=ThisPython())
    manager.start_kernel(extra_arguments=["--IPKernelApp.log_level=40"])
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=120)
        client.execute_interactive(code, output_hook=hear, allow_stdin=False)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return pairs, painted


def row(number: int, plain: list[float], shown: list[float]) -> str:
    """One pair as a line of the table."""
    wall, cpu = shown[0] / plain[0], shown[1] / plain[1]
    return f"{number:>4}{plain[0]:>10.2f}{shown[0]:>10.2f}{wall:>8.3f}{plain[1]:>12.2f}{shown[1]:>10.2f}{cpu:>8.3f}"


def main() -> int:
    """Measure, print a table; 1 where showing costs more than the limit by processor time."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    print(f"SmolLM2, {TOKENS} tokens, {PAIRS} pairs in one kernel; s by the clock, s of processor time\n")
    print(f"{'pair':>4}{'generate':>10}{'shown':>10}{'ratio':>8}{'generate':>12}{'shown':>10}{'ratio':>8}", flush=True)
    folder = str(Path(__file__).resolve().parent)
    pairs, painted = in_kernel(
        f"import sys; sys.path.insert(0, {folder!r}); import streaming; streaming.measure(get_ipython())"
    )
    if len(pairs) < PAIRS:
        print("the kernel did not come to its end")
        return 1
    if {tokens for pair in pairs for _, _, tokens in pair} != {TOKENS}:
        print("the two did not make the same number of tokens")
        return 1
    print()
    for i, what in enumerate(("by the clock", "by processor time")):
        low, median, high = statistics.quantiles((shown[i] / plain[i] for plain, shown in pairs), n=4)
        print(f"{what:<18} median ratio {median:.3f}, half of the pairs from {low:.3f} to {high:.3f}; at most {LIMIT}")
    print(f"{painted / (PAIRS + 1):.0f} display messages an answer")
    good = median <= LIMIT  # by processor time, the last of the two
    print("within the limit" if good else "above the limit")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
