"""What a magic costs over the bare engine: at most 3 %, for both engines.

``%llm``, from the line to the final card in place, runs in turn with the engine's own ``stream`` of the same prompt
in one process, a real kernel, while a client takes every message off it, as a notebook's page would (SmolLM2,
greedy). The median of the ratios of neighbours counts, and has to be within the limit twice: by processor time of the
kernel's process, threads included, and by the clock, unless other processes disturb it. ``streaming.py`` compares
the same with the bare ``generate``.
"""

import os
import sys
import threading
from typing import Any

from streaming import BUSY, QUESTION, in_kernel, in_turn, ratios

TOKENS = {"transformers": 60, "llamacpp": 300}
PAIRS = 7
LIMIT = 1.03


def measure(shell: Any, engine: str) -> None:
    """Runs in the kernel."""
    from llm_magics import get_session
    from llm_magics.values.asking import GenerationOptions
    from llm_magics.values.messages import Message

    shell.run_line_magic("load_ext", "llm_magics")
    shell.run_line_magic("llm_load", f"smollm2 --engine {engine};")
    bare: Any = get_session()._models["smollm2"].engine
    options = GenerationOptions(temperature=0.0, repetition_penalty=1.1, max_new_tokens=TOKENS[engine])
    line = f"-t 0 --repetition-penalty 1.1 --max-new-tokens {TOKENS[engine]} --no-history {QUESTION}"

    def plain() -> int:
        prompt = bare.render([Message("user", QUESTION)])
        return [chunk.usage.new_tokens for chunk in bare.stream(prompt, options, threading.Event())][-1]

    def magic() -> int:
        return int(shell.run_line_magic("llm", line).usage.new_tokens)

    in_turn(plain, magic, PAIRS)


def compare(engine: str) -> bool:
    """Measure one engine and print what came of it; whether it is within the limit."""
    print(f"\n{engine}: SmolLM2, {TOKENS[engine]} tokens, {PAIRS} pairs; s by the clock, s of processor time")
    pairs, _, others = in_kernel(f"plumbing.measure(get_ipython(), {engine!r})", "stream", "%llm")
    if len(pairs) < PAIRS or len({tokens for pair in pairs for _, _, tokens in pair}) != 1:
        print("the kernel did not come to its end, or the two did not make the same tokens")
        return False
    clock, processor = ratios(pairs, LIMIT, others)
    return processor <= LIMIT and (clock <= LIMIT or others > BUSY)


def main() -> int:
    """Measure both engines; 1 where one costs more than the limit."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    good = all([compare(engine) for engine in sys.argv[1:] or TOKENS])
    print("\nwithin the limit" if good else "\nabove the limit")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
