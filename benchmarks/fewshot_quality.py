"""How often each way to classify a text with worked examples is right: the tutorial's, ours, and those without a model.

    python benchmarks/fewshot_quality.py [LABELLED.csv ...] [--rows N] [--per-label M] [--seed S]

A file has the columns ``text`` and ``label``. Every way sees the same rows. A row is never among its own examples:
these are all other rows, or, with ``--per-label``, so many of each label, and then the rows among them are not asked.
Printed is the share that is right with its 95 % interval (Wilson 1927), the logarithmic loss where a way gives
probabilities, and the processor time a row, free text included. Nothing is kept between runs. ``data/home.csv`` has 14
long labels and was written before anything was tuned.
"""

from __future__ import annotations

import argparse
import csv
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_magics import Session
from llm_magics.prompts import fewshot
from llm_magics.values.answers import Answer
from llm_magics.values.asking import AskRequest
from llm_magics.values.messages import Example
from llm_magics.values.models import ModelRequest

DATA = Path(__file__).parents[1] / "examples" / "data"
SETS = ("intent", "sentiment")
SHOTS, NEIGHBOURS, TOKENS = 8, 5, 24
LEAST = 1e-6  # a probability of 0 for what is right would make every mean infinite

Shares = Mapping[str, float]
Way = Callable[[Example, Sequence[Example]], Mapping[str, Shares | str]]
"""From a row and its examples to one answer, or the probabilities of all, under each name that it measures."""


def rows_of(path: Path) -> list[Example]:
    """The labelled texts of a file."""
    with path.open(encoding="utf-8", newline="") as file:
        return [Example(row["text"], row["label"]) for row in csv.DictReader(file)]


def split(rows: Sequence[Example], per_label: int, count: int, seed: int) -> Iterator[tuple[Example, list[Example]]]:
    """Rows to ask, in a random order, each with its examples."""
    order = random.Random(seed).sample(range(len(rows)), len(rows))
    if not per_label:
        for place in order[:count]:
            yield rows[place], [row for other, row in enumerate(rows) if other != place]
        return
    seen: Counter[str] = Counter()
    kept = []
    for place in order:
        if seen[rows[place].output] < per_label:
            seen[rows[place].output] += 1
            kept.append(place)
    for place in [place for place in order if place not in kept][:count]:
        yield rows[place], [rows[other] for other in kept]


def instruction(labels: Sequence[str]) -> str:
    """As the tutorial words it."""
    return f"Classify the text into {', '.join(labels[:-1])} or {labels[-1]}."


def named(reply: str, labels: Sequence[str]) -> str:
    """The label that a reply names first; empty where it names none."""
    places = {label: reply.lower().find(label.lower()) for label in labels}
    return min((label for label in labels if places[label] >= 0), key=lambda label: places[label], default="")


def tutorials(labels: Sequence[str]) -> Way:
    """transformers' pipeline, free text, temperature 0.1, penalty 1.1; the label that is named first counts."""
    from transformers import pipeline

    session = Session(say=lambda line: None)
    session.load(ModelRequest("smollm2", engine="transformers"))
    engine: Any = session._models["smollm2"].engine
    model, tokenizer = engine._model, engine._tokenizer
    generate = pipeline("text-generation", model=model, tokenizer=tokenizer, return_full_text=False)
    options = {"do_sample": True, "temperature": 0.1, "repetition_penalty": 1.1, "max_new_tokens": TOKENS}

    def answer(row: Example, pool: Sequence[Example]) -> Mapping[str, str]:
        asked = [{"role": "user", "content": f"{instruction(labels)}\n\n{row.input}"}]
        reply = str(generate(asked, **options)[0]["generated_text"])
        return {"tutorial: no examples, free text": named(reply, labels)}

    return answer


def zero_shot(session: Session, labels: Sequence[str]) -> Way:
    """The labels scored without any example."""
    engine: Any = session._models["smollm2"].engine

    def answer(row: Example, pool: Sequence[Example]) -> Mapping[str, Shares]:
        prompt = engine.render(fewshot.build(fewshot.FewShotCell(instruction(labels), (), row.input)))
        shares = engine.score(prompt, labels, threading.Event())
        return {"no examples, labels scored": dict(zip(labels, shares, strict=True))}

    return answer


def ours(session: Session, labels: Sequence[str], name: str, select: str, k: int) -> Way:
    """``%%fewshot``: free text, and ``--choices`` with each of its ways to decide, which one answer tells."""

    def ask(row: Example, pool: Sequence[Example], request: AskRequest, **choosing: Any) -> Answer:
        cell = f"{instruction(labels)}\n---\n{row.input}\n---"
        stream = session.ask_fewshot(cell, request, given=pool, k=min(k, len(pool)), select=select, **choosing)
        for _ in stream:
            pass
        return stream.answer

    def answer(row: Example, pool: Sequence[Example]) -> Mapping[str, Shares | str]:
        found = ask(row, pool, AskRequest(history=False), choices=labels, decide="blend")
        free = {f"{name}, free text": named(ask(row, pool, AskRequest(history=False, max_new_tokens=TOKENS)), labels)}
        shares = {f"{name}, {way}": found.evidence[way] for way in ("model", "calibrated")}
        alone = {"examples alone, nearest mean": found.evidence["examples"]} if select == "similar" else {}
        return {**free, **shares, f"{name}, blend": found.probabilities, **alone}

    return answer


def without_model(session: Session) -> Way:
    """The most frequent label, and the label of the nearest examples."""

    def answer(row: Example, pool: Sequence[Example]) -> Mapping[str, str]:
        similar = session.knowledge.embedder().similarities([example.input for example in pool], row.input)
        votes: Counter[str] = Counter()
        for place in sorted(range(len(pool)), key=lambda place: -similar[place])[:NEIGHBOURS]:
            votes[pool[place].output] += similar[place]  # type: ignore[assignment]
        majority = Counter(example.output for example in pool).most_common(1)[0][0]
        return {"majority": majority, f"{NEIGHBOURS} nearest examples vote": votes.most_common(1)[0][0]}

    return answer


def report(name: str, found: Sequence[tuple[str, Shares | str]], seconds: float) -> None:
    """One line: how many are right, with the interval, and what it cost."""
    from scipy.stats import binomtest

    hits = sum(
        right == (given if isinstance(given, str) else max(given, key=given.__getitem__)) for right, given in found
    )
    interval = binomtest(hits, len(found)).proportion_ci(method="wilson")
    losses = [-math.log(max(given[right], LEAST)) for right, given in found if not isinstance(given, str)]
    loss = f"{sum(losses) / len(losses):5.2f}" if losses else "    -"
    print(
        f"  {name:46}{hits:4} of {len(found)}  {hits / len(found):4.0%}  ({interval.low:.0%} to {interval.high:.0%})"
        f"  loss {loss}  {seconds / len(found):5.2f} s",
        flush=True,
    )


def measure(path: Path, session: Session, options: argparse.Namespace) -> None:
    """Every way on one file."""
    rows = rows_of(path)
    labels = sorted({row.output for row in rows})
    asked = list(split(rows, options.per_label, options.rows or len(rows), options.seed))
    print(f"{path.stem}: {len(asked)} rows, {len(labels)} labels, {len(asked[0][1])} examples", flush=True)
    ways = [
        without_model(session),
        ours(session, labels, f"{SHOTS} similar examples", "similar", SHOTS),
        ours(session, labels, "2 fixed examples a label", "balanced", 2 * len(labels)),
        zero_shot(session, labels),
        tutorials(labels),
    ]
    for way in ways:
        began = time.process_time()
        found: dict[str, list[tuple[str, Shares | str]]] = {}
        for row, pool in asked:
            for name, given in way(row, pool).items():
                found.setdefault(name, []).append((row.output, given))
        seconds = time.process_time() - began
        for name, answers in found.items():
            report(name, answers, seconds)


def main() -> None:
    """Measure the files that are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, default=[DATA / f"{name}.csv" for name in SETS])
    parser.add_argument("--rows", type=int, default=42, help="how many rows are asked, 42 unless given; 0 for all")
    parser.add_argument("--per-label", type=int, default=0, help="examples of each label; all other rows unless given")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    session = Session(say=lambda line: None)
    session.load(ModelRequest("smollm2"))
    for path in options.files:
        measure(path, session, options)


if __name__ == "__main__":
    main()
