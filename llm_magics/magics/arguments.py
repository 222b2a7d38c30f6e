"""Option groups that several magics share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .parsing import Parser, escaped, number, one_of, variable, whole_number

if TYPE_CHECKING:
    from ..values.asking import AnswerSchema, AskRequest


def add_asking(parser: Parser) -> None:
    """The common options of every magic that asks a model."""
    add = parser.add_argument_group("asking").add_argument
    add("-m", "--model", metavar="NAME", default="", help="a loaded model; the one loaded last unless given")
    add("-s", "--system", metavar="TEXT", help="system message")
    add(
        "-t",
        "--temperature",
        type=number("0.7"),
        metavar="T",
        help="0 is greedy, above 0 samples; default 0.1, %%%%fewshot 0",
    )
    add("--top-p", type=number("0.9"), metavar="P", help="share of probability that is sampled from")
    add("--max-new-tokens", type=whole_number("500", 1), metavar="N", help="longest answer; 500 unless given")
    add("--repetition-penalty", type=number("1.1"), metavar="R", help="1 is none; default 1, %%%%llm 1.1")
    add("--seed", type=whole_number("0"), metavar="N", help="same seed, same text")
    add("--stop", type=escaped, action="append", default=[], metavar="TEXT", help="ends the answer; may be repeated")
    add = parser.add_argument_group("result").add_argument
    add("-o", "--out", type=variable, metavar="VAR", help="variable that gets the answer")
    formats = one_of("markdown", "text", "json", "code", also={"md": "markdown"})
    add("-f", "--format", type=formats, metavar="FORM", help="markdown, text, json or code")
    add("--schema", metavar="VAR|FILE", help="pydantic class, JSON schema or .json file that the answer follows")
    add("--no-stream", action="store_true", help="shows the answer when it is complete")
    add("--no-history", action="store_true", help="neither sends the conversation nor keeps this exchange")
    add("--no-interpolate", action="store_true", help="leaves {{...}} as it is")
    add("--dry-run", action="store_true", help="shows the exact prompt and its tokens; runs nothing")


def add_rows(parser: Parser) -> None:
    """The options that ask for every row of a table."""
    add = parser.add_argument_group("table").add_argument
    add("--over", metavar="DATAFRAME", help="one answer a row, {{row.column}} in the cell; the table goes to -o")
    add("--column", default="", metavar="NAME", help="with --over: the column whose text is asked, below the cell's")


def ask_request(args: argparse.Namespace, cell: str, run: int, schema: AnswerSchema | None = None) -> AskRequest:
    """The common options as a value.

    Args:
        args: parsed options of ``add_asking``.
        cell: identity of the notebook cell.
        run: which execution of the cell it is.
        schema: what ``--schema`` names.
    """
    from ..values.asking import AskRequest

    return AskRequest(
        model=args.model,
        system=args.system,
        temperature=args.temperature,
        top_p=args.top_p,
        max_new_tokens=args.max_new_tokens,
        repetition_penalty=args.repetition_penalty,
        seed=args.seed,
        stop=tuple(args.stop),
        format=args.format or "",
        history=not args.no_history,
        cell=cell,
        run=run,
        schema=schema,
    )
