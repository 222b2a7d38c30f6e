"""One answer a row of a table: ``--over``.

Rows are asked by the same functions as single questions, a few hundred at a time, so that memory is bounded by the
result. What is done is remembered by the exact prompt, the model and the options: the same cell run again asks only
for what is missing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .asking import QuestionStream
from .errors import InputError, LLMMagicsError, MissingPackageError, did_you_mean
from .history import Exchange, History
from .prompts import fewshot, plain, schemas
from .prompts.interpolation import RowText, is_missing
from .values.answers import Answer, AnswerStream, Usage
from .values.asking import AskRequest
from .values.messages import Prompt
from .values.tables import AnswerTable, RowsProgress

AT_ONCE = 256
"""Rows whose prompts are in memory at a time."""

_COMMON = ("answer", "error", "tokens_in", "tokens_out", "seconds")

Ask = Callable[[Any, AskRequest], AnswerStream]
AtOnce = Callable[[Sequence[AnswerStream], threading.Event], Iterator[tuple[int, Answer | LLMMagicsError]]]
Record = tuple[Any, ...]


class Row:
    """One row of a table, for ``{{row.column}}`` and ``{{row["column"]}}``.

    Args:
        values: by the columns' names.
    """

    def __init__(self, values: Mapping[Any, Any]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python itself looks for these
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: Any) -> Any:
        if name not in self._values:
            raise InputError(f"the table has no column {name}", _columns_hint(str(name), self._values))
        return self._values[name]


@dataclasses.dataclass(frozen=True)
class RowQuestions:
    """What is asked for each row.

    Attributes:
        frame: the table.
        text: the cell.
        method: ``llm``, ``fewshot``, ``cot`` or ``rag``.
        column: the column whose text is asked; empty where the cell says what it takes from a row.

    Raises:
        InputError: cell and column do not go together, or there is no such column.
    """

    frame: Any
    text: RowText
    method: str
    column: str = ""

    def __post_init__(self) -> None:
        if self.column and self.column not in self.frame.columns:
            raise InputError(
                f"the table has no column {self.column}", _columns_hint(self.column, dict.fromkeys(self.frame.columns))
            )
        if not self.column and not self.text.asks_for_rows:
            first = next(iter(self.frame.columns), "text")
            raise InputError(
                "every row would be asked the same", f"Type --column {first}, or {{{{row.{first}}}}} in the cell"
            )
        if self.text.asks_for_rows and self.column:
            raise InputError("--column and {{row...}} both say what is asked", "Leave one of them out")

    def __iter__(self) -> Iterator[Callable[[], Any]]:
        """A function for each row that makes its question: a text, or a ``FewShotCell``."""
        names = list(self.frame.columns)
        cell = self._cell() if self.method == "fewshot" else None
        for values in self.frame.itertuples(index=False, name=None):
            row = dict(zip(names, values, strict=True))
            yield functools.partial(self._question, row, cell)

    def _cell(self) -> fewshot.FewShotCell:
        """The cell of ``%%fewshot``, read once with marks in it, so that no row's arrows can be taken for its own."""
        asked = f"{self.text.marked}\n---\n?" if self.text.marked.strip() else "?"
        return fewshot.parse_cell(asked if self.column else self.text.marked)

    def _question(self, row: Mapping[Any, Any], cell: fewshot.FewShotCell | None) -> Any:
        if self.column and (is_missing(row[self.column]) or not str(row[self.column]).strip()):
            raise InputError(f"{self.column} is empty in this row", "Fill it in, or leave the row out")
        values = self.text.values(Row(row))
        if cell is None:
            text = RowText.filled(self.text.marked, values)
            return f"{text.rstrip()}\n\n{row[self.column]}".lstrip("\n") if self.column else text
        examples = tuple(
            dataclasses.replace(e, input=RowText.filled(e.input, values), output=RowText.filled(e.output, values))
            for e in cell.examples
        )
        question = str(row[self.column]) if self.column else RowText.filled(cell.question, values)
        if not question.strip():
            raise InputError("the question is empty in this row", "Fill it in, or leave the row out")
        return fewshot.FewShotCell(RowText.filled(cell.instruction, values), examples, question)


class Done:
    """The answers of tables that are still there, so that a cell that runs again asks only for what is missing."""

    def __init__(self) -> None:
        self._tables: list[tuple[weakref.ref[Any], dict[bytes, Record]]] = []

    def of(self, frame: object) -> dict[bytes, Record]:
        """What was answered for a result; nothing for a frame that is none."""
        return next((dict(records) for known, records in self._tables if known() is frame and frame is not None), {})

    def keep(self, frame: Any, records: dict[bytes, Record]) -> None:
        """Remember what was answered for a result, as long as that is in memory."""
        self._tables = [pair for pair in self._tables if pair[0]() is not None]
        self._tables.append((weakref.ref(frame), records))


class Tables:
    """How a session asks for the rows of tables, and what it remembers of those that it answered.

    Args:
        model: from the name in a request, which may be empty, to the name of the model that answers.
        at_once: answers several questions that are asked alike.
        quiet: makes a context in which nothing is said: a line for each row would be too many.
        history: gets one entry for a whole table.
    """

    def __init__(
        self,
        *,
        model: Callable[[str], str],
        at_once: AtOnce,
        quiet: Callable[[], contextlib.AbstractContextManager[None]],
        history: History,
    ) -> None:
        self._model, self._at_once, self._quiet, self._history = model, at_once, quiet, history
        self._done = Done()

    def ask(
        self,
        table: object,
        ask: Ask,
        text: str,
        request: AskRequest,
        *,
        method: str,
        source: str,
        column: str,
        reasoning: bool,
        choices: Sequence[str],
        before: object,
        out: str,
    ) -> AnswerTable:
        """Make ready to ask for every row; arguments and errors are told by ``Session.over``."""
        questions = questions_of(table, text, method=method, source=source, column=column)
        added = added_columns(questions.frame, method=method, reasoning=reasoning, choices=choices, request=request)
        request = dataclasses.replace(request, model=self._model(request.model))

        def quietly(question: Any, request: AskRequest) -> AnswerStream:
            with self._quiet():
                return ask(question, request)

        asker = TableAsker(questions, quietly, self._at_once, request, added, self._done.of(before))
        return answer_table(asker, source=source, out=out, done=self._done, history=self._history)


class TableAsker:
    """Asks for the rows, and holds what came of them.

    Args:
        questions: one a row.
        ask: makes a running answer of a question, without beginning it.
        at_once: answers several of those.
        request: how to ask.
        added: names of the added columns after the common ones, and where they come from.
        known: answers that are there already, by ``key``.
    """

    def __init__(
        self,
        questions: RowQuestions,
        ask: Ask,
        at_once: AtOnce,
        request: AskRequest,
        added: Mapping[str, Callable[[Answer], Any]],
        known: Mapping[bytes, Record],
    ) -> None:
        self.questions, self.added = questions, added
        self.history = request.history
        self.request = dataclasses.replace(request, history=False)
        self._ask, self._at_once, self._known = ask, at_once, known
        self._records: dict[int, Record] = {}
        self.keys: dict[bytes, Record] = {}
        self.usage, self.kept, self.failed = Usage(), 0, 0
        self.prompt: Prompt | None = None
        self.total = len(questions.frame)

    @property
    def done(self) -> int:
        """Rows that have an answer or an error."""
        return len(self._records)

    def first(self) -> AnswerStream:
        """The running answer of the first row."""
        return self._ask(next(iter(self.questions))(), self.request)

    def rows(self, stop: threading.Event) -> Iterator[RowsProgress]:
        """Answer all rows. See ``AnswerTable``.

        Raises:
            LLMMagicsError: none of the first rows could be asked, all of them for the same reason: it is the cell's.
        """
        begin = time.perf_counter()
        pending: list[tuple[int, bytes, AnswerStream]] = []
        for number, question in enumerate(self.questions):
            if stop.is_set():
                self.keys = {**self._known, **self.keys}  # those of rows that were not reached
                return
            self._prepare(number, question, pending)
            if len(pending) == AT_ONCE or number == self.total - 1:
                yield from self._answered(pending, stop, begin)
                pending = []
            elif number % AT_ONCE == AT_ONCE - 1:
                yield self._progress(begin)

    def _prepare(
        self, number: int, question: Callable[[], Any], pending: list[tuple[int, bytes, AnswerStream]]
    ) -> None:
        """Make a row's prompt; where it has its answer already, or cannot be asked, that is noted."""
        try:
            stream = self._ask(question(), self.request)
        except LLMMagicsError as error:
            self._fail(number, error)
            reasons = {record[1] for record in self._records.values()}
            if self.failed == number + 1 == min(self.total, AT_ONCE) and len(reasons) == 1:
                self._records.clear()  # it is the cell's mistake, and no table is made
                raise
            return
        self.prompt = self.prompt or stream.prompt
        key = self._key(stream)
        if key in self._known:
            self.kept += 1
            self._keep(number, key, self._known[key])
        else:
            pending.append((number, key, stream))

    def _answered(
        self, pending: Sequence[tuple[int, bytes, AnswerStream]], stop: threading.Event, begin: float
    ) -> Iterator[RowsProgress]:
        for place, found in self._at_once([stream for _, _, stream in pending], stop):
            number, key, _ = pending[place]
            if isinstance(found, LLMMagicsError):
                self._fail(number, found)
            else:
                self._keep(number, key, self._record(found))
                self.usage = self.usage + found.usage
            yield self._progress(begin)
        if stop.is_set():
            self.keys = {**self._known, **self.keys}
        yield self._progress(begin)

    def _record(self, answer: Answer, error: str | None = None) -> Record:
        usage = answer.usage
        values = [value(answer) if error is None else None for value in self.added.values()]
        return (answer.text, error, usage.prompt_tokens, usage.new_tokens, usage.seconds, *values)

    def _keep(self, number: int, key: bytes, record: Record) -> None:
        self._records[number] = self.keys[key] = record

    def _fail(self, number: int, error: LLMMagicsError) -> None:
        self.failed += 1
        partial = error.answer or Answer("")
        answer, *rest = self._record(partial, error.message)
        self._records[number] = (answer or None, *rest)

    def _progress(self, begin: float) -> RowsProgress:
        usage = dataclasses.replace(self.usage, seconds=time.perf_counter() - begin)
        return RowsProgress(len(self._records), self.total, self.kept, self.failed, usage)

    def _key(self, stream: AnswerStream) -> bytes:
        """What decides an answer: the exact prompt, the model, and how it is asked. A drawn seed does not."""
        import hashlib  # slow to load, and not needed before

        parts: list[object] = [stream.method, stream.prompt.text, dataclasses.replace(stream.options, seed=None)]
        if isinstance(stream, QuestionStream):
            question = stream.question
            parts += [question.model, question.opened.identity, question.opened.info.context, question.reasons]
            parts += [stream.choices, stream.single, self.request.seed]
            parts += [[prompt.text for prompt in stream.prompts], stream.nearness]
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()

    def frame(self) -> Any:
        """The rows that are done, with their answers."""
        import pandas as pd

        done = sorted(self._records)
        rows = self.questions.frame.iloc[done]
        records = [self._records[number] for number in done]
        columns = [*_COMMON, *self.added]
        return rows.assign(
            **{
                name: pd.Series([record[place] for record in records], index=rows.index, dtype=_dtype(name))
                for place, name in enumerate(columns)
            }
        )


def added_columns(
    frame: Any, *, method: str, reasoning: bool, choices: Sequence[str], request: AskRequest
) -> dict[str, Callable[[Answer], Any]]:
    """The columns after the common ones, and how each is read from an answer.

    Args:
        frame: the table.
        method: ``llm``, ``fewshot``, ``cot`` or ``rag``.
        reasoning: whether the model writes its reasoning.
        choices: the only possible answers.
        request: how it is asked.

    Raises:
        InputError: the table has a column of such a name.
    """
    added: dict[str, Callable[[Answer], Any]] = {}
    if reasoning:
        added["reasoning"] = lambda answer: answer.reasoning
    if method == "rag":
        added["sources"] = lambda answer: [passage.name for passage in answer.sources]
    for choice in choices:
        added[f"p_{choice}"] = functools.partial(_probability, choice)
    for field in schemas.fields(request.schema) if request.schema else ():
        added[field] = functools.partial(_field, field)
    for name in [*_COMMON, *added]:
        if name in frame.columns or (name in added and name in _COMMON):
            what = "the table" if name in frame.columns else "the schema"
            hint = f"Rename it, for example .rename(columns={{{name!r}: 'given_{name}'}})"
            raise InputError(
                f"{what} has a column {name}, and the answers' table gets one of that name",
                hint if name in frame.columns else "Rename the schema's field",
            )
    return added


def read_table(value: object, name: str) -> Any:
    """A pandas DataFrame of what a person names.

    Args:
        value: a pandas DataFrame or Series, a polars DataFrame, or a list of dictionaries.
        name: what the person calls it.

    Raises:
        InputError: it is no table, or has no rows.
        MissingPackageError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingPackageError("pandas", "tables") from error
    frame = value.to_pandas() if hasattr(value, "to_pandas") else value
    if isinstance(frame, pd.Series):
        frame = frame.to_frame(frame.name or "text")
    if isinstance(frame, list) and frame and all(isinstance(row, Mapping) for row in frame):
        frame = pd.DataFrame(frame)
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{name} is a {type(value).__name__} and no table", "Give a DataFrame to --over")
    if not len(frame):
        raise InputError(f"{name} has no rows", "Give a DataFrame that has some")
    return frame


def questions_of(table: object, text: str, *, method: str, source: str, column: str) -> RowQuestions:
    """What is asked for each row of what a person names. See ``RowQuestions`` and ``read_table``.

    Args:
        table: the table.
        text: the cell; a ``RowText`` where it takes values from a row.
        method: ``llm``, ``fewshot``, ``cot`` or ``rag``.
        source: what the person calls the table.
        column: the column whose text is asked; may be empty.
    """
    row_text = text if isinstance(text, RowText) else RowText(text, text, (), {})
    return RowQuestions(read_table(table, source), row_text, method, column)


def answer_table(asker: TableAsker, *, source: str, out: str, done: Done, history: History) -> AnswerTable:
    """The answers in the making.

    Args:
        asker: that makes them.
        source: what the person calls the table.
        out: the variable that gets the result.
        done: where it is remembered what was answered for a result.
        history: gets one entry for the whole table.
    """

    def rows(stop: threading.Event) -> Iterator[RowsProgress]:
        try:
            yield from asker.rows(stop)
        finally:
            if asker.history and asker.keys:
                _remember(history, asker, out)

    def frame() -> Any:
        made = asker.frame()
        done.keep(made, asker.keys)
        return made

    return AnswerTable(
        method=asker.questions.method,
        model=asker.request.model,
        source=source,
        total=asker.total,
        columns=("answer", "error", *asker.added),
        first=asker.first,
        rows=rows,
        frame=frame,
    )


def _remember(history: History, table: TableAsker, out: str) -> None:
    failed = f", {table.failed} failed" if table.failed else ""
    answered = table.done - table.failed
    text = f"{answered} of {table.total} rows answered{failed}" + (f", in {out}" if out else "")
    method, request = table.questions.method, table.request
    answer = Answer(
        text, method=method, model=request.model, prompt=table.prompt, usage=table.usage, output_format="text"
    )
    question = plain.trim(table.questions.text) or f"(column {table.questions.column})"
    history.record(Exchange(question, answer, request.cell, request.run))


def _probability(choice: str, answer: Answer) -> float:
    return answer.probabilities[choice]


def _field(name: str, answer: Answer) -> Any:
    data = answer.data
    values = data.model_dump() if hasattr(data, "model_dump") else data
    return values.get(name) if isinstance(values, Mapping) else None


def _dtype(name: str) -> Any:
    return {"tokens_in": int, "tokens_out": int, "seconds": float}.get(name)


def _columns_hint(name: str, columns: Mapping[Any, Any]) -> str:
    names = [str(column) for column in columns]
    return did_you_mean(name, names) or f"It has {', '.join(names[:8])}"
