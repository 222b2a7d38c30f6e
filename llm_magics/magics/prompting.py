"""The magics that ask: ``%%llm``, ``%%fewshot``, ``%%cot``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..display.answer import show_answer
from ..display.formatters import mark_shown
from ..display.prompt import show_prompt
from ..errors import InputError, did_you_mean
from ..messages import AskRequest, Example
from ..results import AnswerStream
from .arguments import add_asking, ask_request
from .declare import MagicGroup, magic
from .parsing import Parser, comma_list, one_of, whole_number


def _llm_options(parser: Parser) -> None:
    add_asking(parser)


def _fewshot_options(parser: Parser) -> None:
    add = parser.add_argument
    add("-e", "--examples", metavar="VAR|FILE", help="variable, CSV or JSON Lines file with more examples")
    add("-k", type=whole_number("4", 1), metavar="N", help="how many examples to use; all unless given")
    select = one_of("all", "first", "balanced", "similar")
    add("--select", type=select, default="all", metavar="WAY", help="all, first, balanced, or similar to the question")
    add(
        "--choices",
        type=comma_list,
        default=(),
        metavar="A,B,C",
        help="the only possible answers; shows how probable each is",
    )
    add_asking(parser)


def _cot_options(parser: Parser) -> None:
    add = parser.add_argument
    strategy = one_of("steps", "plan", "zero-shot")
    add("--strategy", type=strategy, default="steps", metavar="WAY", help="steps, plan or zero-shot")
    add("--votes", type=whole_number("5", 1), default=1, metavar="N", help="samples N chains and takes the majority")
    add("-e", "--examples", metavar="VAR|FILE", help="variable, CSV or JSON Lines file with worked examples")
    add_asking(parser)


class PromptingMagics(MagicGroup):
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
        return self._show(args, self.session.ask(args.text, self._request(args)))

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
        stream = self.session.ask_fewshot(
            args.text,
            self._request(args),
            given=self._examples(args.examples),
            k=args.k,
            select=args.select,
            choices=args.choices,
        )
        return self._show(args, stream)

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
        given = self._examples(args.examples)
        request = self._request(args)
        stream = self.session.ask_cot(args.text, request, strategy=args.strategy, votes=args.votes, given=given)
        return self._show(args, stream)

    def _request(self, args: argparse.Namespace) -> AskRequest:
        """The cell's identity comes with the front end's request; a terminal has none."""
        get_parent = getattr(self.shell, "get_parent", None)
        parent = get_parent() if get_parent else {}
        cell = (parent.get("metadata") or {}).get("cellId") or ""
        return ask_request(args, str(cell), self.shell.execution_count)

    def _show(self, args: argparse.Namespace, stream: AnswerStream) -> Any:
        if args.dry_run:
            show_prompt(stream.prompt, shell=self.shell)
            return stream.prompt
        rate = self.session.settings.updates_per_second
        answer = show_answer(
            stream, shell=self.shell, updates_per_second=rate, live=not args.no_stream, silent=args.silent
        )
        if args.silent:
            mark_shown(self.shell, answer)
        return answer

    def _examples(self, name: str | None) -> Sequence[Example]:
        """Examples from a variable of that name, else from a file.

        Raises:
            InputError: there is neither, or it holds no examples.
        """
        if name is None:
            return ()
        if name in self.shell.user_ns:
            return self.session.examples(self.shell.user_ns[name], name)
        if name.isidentifier() and not Path(name).exists():
            raise InputError(
                f"there is no variable or file {name}",
                did_you_mean(name, [n for n in self.shell.user_ns if not n.startswith("_")])
                or "Give a variable with pairs, or a .csv or .jsonl file",
            )
        return self.session.examples(Path(name).expanduser(), name)
