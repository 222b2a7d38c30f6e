"""What an evaluation costs beside its model: 1,000 rows by 3 methods, each answer written to disk.

The baseline is the loop that a person would write, which asks the same session the same questions and keeps
nothing: ``session.ask_messages(...)`` a row. Both run in turn in one process, and count its processor time.

    python benchmarks/evaluation.py
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable

from llm_magics import ScriptedEngine, Session
from llm_magics.settings import LLMMagics
from llm_magics.values.evaluation import EvaluationRequest
from llm_magics.values.messages import Message

ROWS, EXAMPLES, ROUNDS = 1000, 100, 3
METHODS = ("llm", "cot", "fewshot:4:first")
LIMIT = 2.0  # milliseconds a row and method, beyond the loop


def rows() -> list[tuple[str, str]]:
    draw = random.Random(0)
    return [
        (f"{' '.join(draw.choices(['it', 'was', 'good', 'bad', 'late', 'fine'], k=12))} {n}", draw.choice("abc"))
        for n in range(ROWS + EXAMPLES)
    ]


def evaluation(session: Session, data: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LLM_MAGICS_CACHE"] = folder
        request = EvaluationRequest(methods=METHODS, example_rows=EXAMPLES)
        report = session.evaluate(data, request).run().report
    assert len(report.outcomes) == ROWS * (len(METHODS) + 2)


def loop(session: Session, data: list[tuple[str, str]]) -> None:
    for text, _ in data[:ROWS]:
        for _ in METHODS:
            for _ in session.ask_messages([Message("user", f"Classify the text into a, b or c.\n\n{text}")]):
                pass


def milliseconds(work: Callable[[Session, list[tuple[str, str]]], None], data: list[tuple[str, str]]) -> float:
    session = Session(LLMMagics(embedding="hashing-256"), say=lambda line: None)
    session.add("fake", ScriptedEngine(lambda messages: "a"))
    begin = time.process_time()
    work(session, data)
    return 1000 * (time.process_time() - begin) / (ROWS * len(METHODS))


def main() -> int:
    data = rows()
    milliseconds(evaluation, data)  # imports
    pairs = [(milliseconds(evaluation, data), milliseconds(loop, data)) for _ in range(ROUNDS)]
    whole, bare = min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)
    print(f"{ROWS} rows x {len(METHODS)} methods, processor time a row and method:")
    print(f"evaluation {whole:.2f} ms, bare loop {bare:.2f} ms, overhead {whole - bare:.2f} ms (wanted: {LIMIT} ms)")
    return 0 if whole - bare <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
