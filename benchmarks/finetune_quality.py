"""What a plain ``%llm_finetune ROWS --name x`` teaches and what it costs: right answers before and after.

Facts of an invented company (shared/evalsets, 120 rows, 40 unseen questions) or those of this folder
(``--set invented``), and everyday questions that the base answers right (data/general_questions.jsonl; part
``test``: those that were looked at least while the recipe was made). TRL with our defaults, then AutoTrain at
the same optimizer steps, both through the same plan, jobs and adapters as the magic. Answers are greedy.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from llm_magics import ModelRequest
from llm_magics.engines.adapters import Adapters
from llm_magics.engines.resolve import resolve
from llm_magics.engines.transformers import open_model
from llm_magics.tuning import jobs, plan
from llm_magics.values.asking import GenerationOptions
from llm_magics.values.messages import Message
from llm_magics.values.training import RowSource, TrainingRequest

HERE = Path(__file__).parent
GOAL_RIGHT, GOAL_LOST = 0.85, 0.10  # 34 of 40 facts; 2 of 20 everyday questions


@dataclass(frozen=True)
class Question:
    text: str
    pattern: str


def questions(path, part=""):
    """Questions with the pattern of a right answer."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Question(row["question"], row["answer_regex"]) for row in rows if row.get("part", part) == part]


def right(engine, asked, penalty):
    """Which questions an engine answers right, each asked alone."""
    options = GenerationOptions(temperature=0, max_new_tokens=40, repetition_penalty=penalty)
    found = []
    for question in asked:
        prompt = engine.render([Message("user", question.text)])
        text = "".join(chunk.text for chunk in engine.stream(prompt, options, threading.Event()))
        found.append(bool(re.search(question.pattern, text, re.IGNORECASE)))
    return found


def train(backend, rows, folder, options, steps=0):
    """Train with a back end; with ``steps``, in as many optimizer steps."""
    request = TrainingRequest(backend, "smollm2", backend=backend, background=True, **options)
    decided = plan(request, RowSource(rows))
    if steps:
        epoch = decided.spec.steps / (decided.spec.request.epochs or 1)
        decided = plan(
            TrainingRequest(backend, "smollm2", backend=backend, background=True, epochs=max(1, round(steps / epoch)),
                            **{"learning_rate": 2e-3, **options}),
            RowSource(rows),
        )  # fmt: skip
    begin = time.monotonic()
    job = jobs(folder).start(decided)
    for _ in job.follow(1.0):
        pass
    run = job.run()
    print(f"{backend}: {run.step} steps, {time.monotonic() - begin:.0f} s, loss {run.losses[-1][1]:.3f} {run.text}")
    return run


def main() -> int:
    """Print the table; 1 where the default misses its goals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("evalsets", nargs="?", default=HERE.parents[1] / "shared" / "evalsets", type=Path)
    parser.add_argument("--set", default="facts", choices=("facts", "invented"))
    parser.add_argument("--backends", default="trl,autotrain")
    parser.add_argument("--mix", default="", help="none: without the everyday texts")
    parser.add_argument("--repetition-penalty", default=1.0, type=float)
    given = parser.parse_args()
    place = given.evalsets if given.set == "facts" else HERE / "data"
    if not (place / f"{given.set}_train.jsonl").is_file():
        print(f"{place} holds no {given.set}_train.jsonl: nothing to measure")
        return 0
    facts = questions(place / f"{given.set}_test.jsonl")
    general = questions(HERE / "data" / "general_questions.jsonl", "test")
    adapters = Adapters(open_model(resolve("smollm2"), ModelRequest("smollm2", engine="transformers")))
    before = right(adapters.base, facts, given.repetition_penalty)
    answered = right(adapters.base, general, given.repetition_penalty)
    known = [one for one, good in zip(general, answered, strict=True) if good]
    print(f"before: {sum(before)} of {len(facts)} facts; {len(known)} everyday questions are right")
    steps, reached = 0, True
    with tempfile.TemporaryDirectory() as folder:
        for backend in given.backends.split(","):
            options = {"mix": given.mix} if backend == "trl" else {}
            run = train(backend, place / f"{given.set}_train.jsonl", Path(folder), options, steps)
            steps = steps or run.step
            tuned = adapters.add(backend, run.adapter)
            learned = sum(right(tuned, facts, given.repetition_penalty))
            lost = len(known) - sum(right(tuned, known, given.repetition_penalty))
            print(f"{backend}: {learned} of {len(facts)} facts, {lost} of {len(known)} everyday questions lost")
            if backend == "trl":
                reached = learned >= GOAL_RIGHT * len(facts) and lost <= GOAL_LOST * len(known)
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
