"""What asking a table at once is worth on a CPU: 64 short texts, 8 examples, labels, with SmolLM2 in one process.

The baseline is how tutorials do it: a loop over the texts in which transformers' ``pipeline`` generates the label
(float32, temperature 0.1, repetition penalty 1.1), on the same weights. Against it ``%%fewshot --over --choices`` and
``%%fewshot --over`` as a notebook runs them, display included, on both engines. At least 8 times as fast.

Seconds of processor time count, those of all threads: other processes disturb the clock. The baseline reads some
TRIED of the texts, since each costs it the same, and is scaled up to all of them.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

TEXTS, TRIED, GOAL = 64, 8, 8.0
LABELS = ("neutral", "negative", "positive")
INSTRUCTION = "Classify the text into neutral, negative or positive."
CELL = "%%fewshot --over texts --column text -o result{options}\n" + INSTRUCTION + "\n{shots}"


def now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def rows() -> tuple[list[tuple[str, str]], list[str]]:
    """Eight examples with their labels, and 64 other texts."""
    things = ("The soup", "Our room", "The museum shop", "His new phone", "The night train", "That film",
              "The garden chair", "Her lecture on birds", "The ferry to the island")  # fmt: skip
    said = {
        "negative": ("was a waste of an evening.", "broke down before we had used it twice.", "made us want to leave."),
        "neutral": ("was what one would expect at that price.", "was neither good nor bad.", "did its job, no more."),
        "positive": ("was better than anything we had hoped for.", "made our whole week."),
    }
    every = [(f"{thing} {words}", label) for thing in things for label, wordings in said.items() for words in wordings]
    return every[:8], [text for text, _ in every[8 : 8 + TEXTS]]


def of_pipeline(shots: list[tuple[str, str]], texts: list[str]) -> tuple[float, float]:
    """Seconds of processor time and by the clock for all texts, from some of them."""
    from transformers import pipeline

    from llm_magics import ModelRequest
    from llm_magics.engines.resolve import resolve
    from llm_magics.engines.transformers import open_model

    engine = open_model(resolve("smollm2"), ModelRequest("smollm2"))
    generate = pipeline("text-generation", model=engine._model, tokenizer=engine._tokenizer)
    turns: list[dict[str, str]] = []
    for text, label in shots:
        turns += [{"role": "user", "content": f"{INSTRUCTION}\n\n{text}"}, {"role": "assistant", "content": label}]
    how = {"temperature": 0.1, "repetition_penalty": 1.1, "do_sample": True, "max_new_tokens": 8}
    generate([*turns, {"role": "user", "content": "Once, so that everything is loaded."}], **how)
    begin = now()
    for text in texts[:TRIED]:
        generate([*turns, {"role": "user", "content": f"{INSTRUCTION}\n\n{text}"}], **how)
    end = now()
    engine.close()
    return tuple((b - a) * len(texts) / TRIED for a, b in zip(begin, end, strict=True))  # type: ignore[return-value]


def of_magic(engine: str, options: str, shots: list[tuple[str, str]], texts: list[str]) -> tuple[float, float, int]:
    """Seconds of processor time and by the clock of the cell, and how many rows have an answer."""
    import pandas as pd
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell

    InteractiveShell.clear_instance()
    shell: Any = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "llm_magics")
    shell.run_line_magic("llm_load", f"smollm2 --engine {engine};")
    shell.kernel, shell.display_pub = object(), CapturingDisplayPublisher()
    shell.user_ns["texts"] = pd.DataFrame({"text": texts})
    lines = "\n".join(f"{text} => {label}" for text, label in shots)
    shell.run_line_magic("llm", "-t 0 --max-new-tokens 1 Once, so that everything is loaded.;")
    begin = now()
    done = shell.run_cell(CELL.format(options=options, shots=lines))
    end = now()
    done.raise_error()
    answered = int(shell.user_ns["result"].answer.notna().sum())
    shell.extension_manager.unload_extension("llm_magics")
    return end[0] - begin[0], end[1] - begin[1], answered


def main() -> int:
    os.environ.setdefault("LLM_MAGICS_MAX_NEW_TOKENS", "8")
    shots, texts = rows()
    base = of_pipeline(shots, texts)
    print(f"pipeline, one text after the other  {base[0]:7.1f} s of CPU  {base[1]:7.1f} s by the clock")
    failed = False
    for engine in ("transformers", "llamacpp"):
        for name, options in (("labels weighed", f" --choices {','.join(LABELS)}"), ("labels written", "")):
            cpu, clock, answered = of_magic(engine, options, shots, texts)
            ratio = base[0] / cpu
            failed |= ratio < GOAL or answered < len(texts)
            print(
                f"--over, {name}, {engine:12}  {cpu:7.1f} s of CPU  {clock:7.1f} s by the clock"
                f"  {ratio:5.1f} times as fast ({base[1] / clock:.1f} by the clock)"
            )
    print(f"goal: at least {GOAL:g} times: {'MISSED' if failed else 'reached'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
