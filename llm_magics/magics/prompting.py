"""The magics that ask: ``%%llm``, ``%%fewshot``, ``%%cot``."""

from __future__ import annotations

import argparse
import functools
from typing import Any

from .arguments import add_asking, add_rows
from .asking import AskingGroup
from .declare import magic
from .parsing import Parser, comma_list, one_of, whole_number


def _llm_options(parser: Parser) -> None:
    add_asking(parser)
    add_rows(parser)


def _fewshot_options(parser: Parser) -> None:
    add = parser.add_argument
    add("-e", "--examples", metavar="VAR|FILE", help="variable, CSV or JSON Lines file with more examples")
    add(
        "-k",
        type=whole_number("4", 1),
        metavar="N",
        help="how many examples; all, or the 8 most similar, unless given",
    )
    select = one_of("all", "first", "balanced", "similar")
    add("--select", type=select, default="all", metavar="WAY", help="all, first, balanced, or similar to the question")
    add(
        "--choices",
        type=comma_list,
        default=(),
        metavar="A,B,C",
        help="the only possible answers; shows how probable each is",
    )
    decide = one_of("blend", "calibrated", "model")
    add(
        "--decide",
        type=decide,
        metavar="WAY",
        help="what decides between choices: model (its own probabilities), calibrated (what it leans to anyway is "
        "taken out; the default where each choice has an example), or blend (with how near the examples of each "
        "are; the default with --select similar)",
    )
    add_asking(parser)
    add_rows(parser)


def _cot_options(parser: Parser) -> None:
    add = parser.add_argument
    strategy = one_of("steps", "plan", "zero-shot")
    add("--strategy", type=strategy, default="steps", metavar="WAY", help="steps, plan or zero-shot")
    add("--votes", type=whole_number("5", 1), default=1, metavar="N", help="samples N chains and takes the majority")
    add("-e", "--examples", metavar="VAR|FILE", help="variable, CSV or JSON Lines file with worked examples")
    add_asking(parser)
    add_rows(parser)


class PromptingMagics(AskingGroup):
    """Prompt engineering: a plain question, worked examples, a chain of thought."""

    @magic(
        "llm",
        "line_cell",
        options=_llm_options,
        prompt="prompt",
        examples=["%llm What is a llama?", "%%llm -t 0 -o answer\nExplain {{topic}} in one sentence."],
    )
    def llm(self, args: argparse.Namespace) -> Any:
        """Ask the model, with this notebook's conversation so far."""
        return self.answer(args, self.session.ask)

    @magic(
        "fewshot",
        "line_cell",
        options=_fewshot_options,
        prompt="question",
        examples=[
            "%%fewshot\nClassify the text into neutral, negative or positive.\n"
            "I think the food was alright. => Neutral\nThe waiter ignored us. => Negative\nI think the food was okay.",
            "%%fewshot -e examples.csv -k 8 --select similar --choices neutral,negative,positive\n"
            "I think the food was okay.",
        ],
    )
    def fewshot(self, args: argparse.Namespace) -> Any:
        """Ask with worked examples: an instruction, lines of `input => output`, and the question."""
        how = {"given": self.examples(args.examples), "k": args.k, "select": args.select, "choices": args.choices}
        return self.answer(args, functools.partial(self.session.ask_fewshot, **how, decide=args.decide or ""))

    @magic(
        "cot",
        "line_cell",
        options=_cot_options,
        prompt="question",
        examples=[
            "%%cot\nTom has 3 apples and buys 2 more. How many apples has Tom?",
            "%cot --votes 5 Is 91 a prime number?",
        ],
    )
    def cot(self, args: argparse.Namespace) -> Any:
        """Ask for the reasoning, shown folded, and the final answer apart (chain of thought)."""
        how = {"strategy": args.strategy, "votes": args.votes, "given": self.examples(args.examples)}
        return self.answer(args, functools.partial(self.session.ask_cot, **how), reasoning=True)
