"""What a known beginning of a prompt is worth, with SmolLM2 in both local engines, in one process and in turn.

Seconds to the first token of a prompt whose beginning is known, by those of one that is all new:

- eight examples and another question, about 500 tokens: at most 0.10;
- the same passages and another question, about 630 tokens: at most 0.06;
- the second turn of a conversation, after 1000 tokens: at most 0.06.

Each round of a case asks after a system message of its own, which makes everything new, and then asks something else.
Medians of the rounds' ratios count, by the clock; where other processes took more than half a core, by processor
time. Name cases to run only these: ``python benchmarks/prefix.py "second turn"``.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from llamacpp import BUSY, ROUNDS, SENTENCE, Busy, Timing, failed, judge, ratio, timed

from llm_magics.engines import opening
from llm_magics.engines.resolve import resolve
from llm_magics.settings import LLMMagics
from llm_magics.values.asking import GenerationOptions
from llm_magics.values.messages import Message
from llm_magics.values.models import ModelRequest

OPTIONS = GenerationOptions(temperature=0.0, repetition_penalty=1.0, max_new_tokens=4)
REVIEWS = (
    "The soup was a joy and came at once, hot, with bread that was baked in the house this very morning; the "
    "waiter told us where each of the vegetables had grown, and asked twice whether we wanted more of "
    "anything, or perhaps a coffee on the terrace before it rained. => positive\n",
    "I think the staff was rude, and the music far too loud: three times we asked for a quieter table, and "
    "three times somebody promised to look and was not seen again, until it was time to bring the bill, which "
    "was wrong in two places out of five. => negative\n",
    "Our table was by the window, as we had asked, with a view of the car park and of a part of the harbour; "
    "the menu is the one that hangs outside, with five starters, nine main courses and the usual three "
    "desserts, among them the lemon tart that everybody in town makes. => neutral\n",
    "The whole evening was a disaster, cold and slow and far too expensive for what it was, and in the end "
    "they had charged us for a bottle that nobody had ordered, and would not take it off the bill again "
    "without a long talk with the owner. => negative\n",
)
SHOTS = "Classify each review.\n" + "".join(REVIEWS) * 2
PASSAGES = SENTENCE * 29
TALK = (Message("user", SENTENCE * 24 + "Tell me more."), Message("assistant", SENTENCE * 22))
CASES: dict[str, tuple[float, Callable[[str], list[Message]]]] = {
    "eight examples": (0.10, lambda what: [Message("user", f"{SHOTS}The bread was {what}. =>")]),
    "the same passages": (0.06, lambda what: [Message("user", f"{PASSAGES}\n\nWhich ship was {what}?")]),
    "second turn": (0.06, lambda what: [*TALK, Message("user", f"Which year was {what}?")]),
}


def first_token(engine: Any, messages: list[Message]) -> tuple[Timing, int]:
    """The times of one answer, and how many tokens its prompt has."""
    prompt = engine.render(messages)
    stream = engine.stream(prompt, OPTIONS, threading.Event())
    return timed(chunk for chunk in stream if chunk.text), prompt.token_count


def measure(engines: dict[str, Any], name: str) -> None:
    """One case in all engines; the first round is for warming up."""
    limit, messages = CASES[name]
    new: dict[str, list[Timing]] = {engine: [] for engine in engines}
    known: dict[str, list[Timing]] = {engine: [] for engine in engines}
    with Busy() as busy:
        for number in range(-1, ROUNDS):
            for engine in engines:
                for word, timings in (("old", new), ("good", known)):
                    asked = [Message("system", f"Round {number}, {name}."), *messages(word)]
                    timing, tokens = first_token(engines[engine], asked)
                    if number >= 0:
                        timings[engine].append(timing)
    clock = 1 if busy.cores > BUSY else 0
    for engine in engines:
        values = ratio(known[engine], new[engine], lambda timing, clock: timing.first[clock])
        judge(f"{engine}, {name} ({tokens} tokens), known to new", values, limit, busy.cores)
        seconds = sorted(timing.first[clock] for timing in known[engine])
        print(f"       first token of a known beginning: {seconds[len(seconds) // 2]:.3f} s")


def main() -> int:
    engines = {}
    for name in ("transformers", "llamacpp"):
        request = ModelRequest("smollm2", engine=name)
        engines[name] = opening.prepare(resolve("smollm2"), request, coming_back=0, settings=LLMMagics(), say=print)()
    for case in sys.argv[1:] or CASES:
        measure(engines, case)
    for engine in engines.values():
        engine.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
