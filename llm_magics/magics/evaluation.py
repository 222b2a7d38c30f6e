"""The magics that compare: ``%llm_eval`` on a labelled set, ``%%llm_compare`` on one question."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, Interrupted
from .arguments import add_asking
from .asking import AskingGroup
from .declare import magic
from .parsing import Parser, comma_list, number, numbers, one_of, variable, whole_number

if TYPE_CHECKING:
    from ..values.evaluation import EvaluationRequest


def _eval_options(parser: Parser) -> None:
    from ..values.evaluation import METRICS

    add = parser.add_argument
    add(
        "data",
        nargs="?",
        default="",
        metavar="DATA",
        help="DataFrame or list, CSV, JSON Lines or Parquet file, Hub data set",
    )
    add("--methods", type=comma_list, default=("llm", "fewshot:4"), metavar="A,B,C", help=_METHODS_HELP)
    add("--input", default="", metavar="COLUMN", help="column that is asked")
    add("--expected", default="", metavar="COLUMN", help="column with what should come out")
    metrics = one_of(*METRICS)
    add("--metric", type=metrics, metavar="NAME", help=f"{', '.join(METRICS)}; chosen unless given")
    add("--choices", type=comma_list, default=(), metavar="A,B,C", help="the labels; those of the data unless given")
    add("-i", "--instruction", default="", metavar="TEXT", help="what to do, before every input")
    add = parser.add_argument_group("rows").add_argument
    add("--rows", type=whole_number("100", 1), default=0, metavar="N", help="asks N rows at most, drawn at random")
    add("--seed", type=whole_number("0"), default=0, metavar="N", help="of every random choice; 0 unless given")
    add("-e", "--examples", metavar="VAR|FILE", help="worked examples; rows of DATA that are not asked unless given")
    add("--example-rows", type=whole_number("50"), metavar="N", help="rows kept as examples; half, at most 100")
    add("--trained-on", metavar="VAR|FILE", help="rows that a model was trained on: they are looked for")
    add("--drop-leaks", action="store_true", help="leaves out rows that a method could know beforehand")
    add = parser.add_argument_group("asking").add_argument
    add("-m", "--model", metavar="NAME", default="", help="a loaded model; the one loaded last unless given")
    add("-n", "--kb", default="", metavar="NAME", help="knowledge base of rag; the one used last unless given")
    add("--judge", default="", metavar="NAME", help="the loaded model that judges, for --metric judge")
    add("-s", "--system", metavar="TEXT", help="system message")
    add("-t", "--temperature", type=number("0.7"), metavar="T", help="0, which is greedy, unless given")
    add("--max-new-tokens", type=whole_number("60", 1), metavar="N", help="longest answer; 500 unless given")
    add("--no-cache", action="store_true", help="asks everything anew and keeps no answer on disk")
    add = parser.add_argument_group("result").add_argument
    add("-o", "--out", type=variable, metavar="VAR", help="variable that gets the Evaluation, a DataFrame")
    add("--save", metavar="FILE", help="writes every row to a .csv file, or the card to an .html file")


def _compare_options(parser: Parser) -> None:
    add = parser.add_argument
    unless = "; llm and cot unless given, llm alone with --models or --temperatures"
    add("--methods", type=comma_list, default=(), metavar="A,B,C", help=_METHODS_HELP + unless)
    add("--models", type=comma_list, default=(), metavar="A,B", help="loaded models; each method by each of them")
    add("--temperatures", type=numbers("0,0.7"), default=(), metavar="T,T", help="each method at each of them")
    add("-e", "--examples", metavar="VAR|FILE", help="worked examples of fewshot; those in the cell come after them")
    add("-n", "--kb", default="", metavar="NAME", help="knowledge base of rag; the one used last unless given")
    add_asking(parser)


_METHODS_HELP = "llm, fewshot:4, cot, rag, a loaded model, and their sums, such as rag+fewshot:4"


class EvaluationMagics(AskingGroup):
    """Which way of asking helps, and by how much."""

    _evaluation: Any = None  # the last one

    @magic(
        "llm_eval",
        "line",
        options=_eval_options,
        examples=[
            "%llm_eval reviews.csv --input text --expected label --methods llm:text,llm,fewshot:8 -o result",
            "%llm_eval questions --expected pattern --metric regex --methods llm,rag,rag+cot --max-new-tokens 60",
        ],
    )
    def llm_eval(self, args: argparse.Namespace) -> Any:
        """Ask a labelled set in several ways: scores, intervals, what they allow to conclude. Alone, show the last."""
        from ..display.evaluating import show_evaluation

        if not args.data:
            return self._last()
        saving = _saving(args.save)
        source, name = self._data(args.data)
        trained_on = None if args.trained_on is None else self._data(args.trained_on)[0]
        examples = self.examples(args.examples)
        evaluating = self.session.evaluate(source, _request(args), name=name, examples=examples, trained_on=trained_on)
        try:
            evaluation = show_evaluation(evaluating, shell=self.shell, silent=args.silent)
        except Interrupted as stopped:
            self._done(stopped.answer, saving)
            raise
        return self._done(evaluation, saving)

    @magic(
        "llm_compare",
        "line_cell",
        options=_compare_options,
        prompt="question",
        examples=[
            "%%llm_compare --methods llm,fewshot,cot\nName the mood of the text in one word.\n"
            "I loved every minute. => positive\nIt broke at once. => negative\nThe parcel arrived on Tuesday.",
            "%llm_compare --methods llm,rag --temperatures 0,0.7 --seed 1 What is Llama 2?",
        ],
    )
    def llm_compare(self, args: argparse.Namespace) -> Any:
        """Ask one question in several ways: cards side by side, each with its costs and exact prompt."""
        from ..display.comparison import show_comparison, show_prompts
        from ..values.comparison import ComparisonRequest

        ways = ComparisonRequest(args.methods, args.models, args.temperatures, args.kb)
        request = self.request(args)
        comparing = self.session.compare(args.text, ways, request, given=self.examples(args.examples))
        if args.dry_run:
            return show_prompts(comparing.titles, [s.prompt for s in comparing.streams], shell=self.shell)
        rate = self.session.settings.updates_per_second
        return show_comparison(comparing, shell=self.shell, updates_per_second=rate, silent=args.silent)

    def _done(self, evaluation: Any, saving: Callable[[Any], None]) -> Any:
        """Keep what came of it, for a line without data and in a file; None where nothing did."""
        if evaluation is not None:
            self._evaluation = evaluation
            saving(evaluation)
        return evaluation

    def _last(self) -> Any:
        if self._evaluation is None:
            raise InputError("nothing was evaluated yet", "Type %llm_eval DATA --expected COLUMN")
        return self._evaluation

    def _data(self, name: str) -> tuple[Any, str]:
        """A variable's value, else the text itself: a file or a data set of the Hub.

        Raises:
            InputError: a name that is neither.
        """
        value, is_variable = self.variable_or_file(name, "Give a DataFrame, or a .csv or .jsonl file")
        return value, name if is_variable else ""


def _request(args: argparse.Namespace) -> EvaluationRequest:
    from ..values.asking import AskRequest
    from ..values.evaluation import EvaluationRequest

    return EvaluationRequest(
        methods=args.methods,
        input=args.input,
        expected=args.expected,
        metric=args.metric or "",
        rows=args.rows,
        seed=args.seed,
        example_rows=args.example_rows,
        choices=args.choices,
        instruction=args.instruction,
        knowledge_base=args.kb,
        judge=args.judge,
        drop_leaks=args.drop_leaks,
        cache=not args.no_cache,
        ask=AskRequest(
            model=args.model,
            system=args.system,
            temperature=args.temperature,
            max_new_tokens=args.max_new_tokens,
        ),
    )


def _saving(name: str | None) -> Callable[[Any], None]:
    """What writes the rows or the card to a file, or does nothing where none is named.

    Raises:
        InputError: the file has another ending, or its folder is not there; later, it cannot be written.
    """
    path = Path(name or "").expanduser()
    if name and path.suffix.lower() not in (".csv", ".html"):
        raise InputError(f"--save is {name}", "Give a .csv file for the rows, or an .html file for the card")

    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent}", "Make it first, or give --save another file")

    def save(evaluation: Any) -> None:
        try:
            if path.suffix.lower() == ".csv":
                evaluation.outcomes.to_csv(path, index=False)
            elif name:
                from ..display.evaluation import evaluation_page

                path.write_text(evaluation_page(evaluation.report), encoding="utf-8")
        except OSError as error:
            failed = InputError(f"{name} cannot be written: {error.strerror or error}", "Give another file")
            failed.answer = evaluation  # hours of asking are not lost with it
            raise failed from error

    return save
