"""What each method asks: from what a person typed to a question that is decided in every part.

A plain question, worked examples, a chain of thought, retrieval. How the model is called and where its answer is kept
is in ``asking``; what the prompts say is in ``prompts``. Arguments and errors are told by ``Session``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .asking import Asker, Question
from .errors import InputError
from .knowledge.nearest import Nearness
from .open_model import OpenModel
from .prompts import choices as deciding
from .prompts import cot, examples, fewshot, plain, rag
from .values.answers import AnswerStream
from .values.asking import AskRequest, GenerationOptions
from .values.knowledge import RetrievalRequest
from .values.messages import Example, Message, Prompt

if TYPE_CHECKING:
    from .knowledge.bases import KnowledgeBases


class Methods:
    """The ways to ask.

    Args:
        asker: makes running answers of questions.
        model: from the name in a request, which may be empty, to the name of the model that answers, and that model.
        knowledge: gives the knowledge bases.
        nearness: of worked examples to a question.
        say: told in one line what was left out of a prompt.
    """

    def __init__(
        self,
        asker: Asker,
        *,
        model: Callable[[str], tuple[str, OpenModel]],
        knowledge: Callable[[], KnowledgeBases],
        nearness: Nearness,
        say: Callable[[str], None],
    ) -> None:
        self._asker = asker
        self._model = model
        self._knowledge = knowledge
        self._nearness = nearness
        self._say = say

    def plain(self, text: str, request: AskRequest) -> AnswerStream:
        """A question that continues the conversation; see ``Session.ask``."""
        if not text.strip():
            raise InputError("the prompt is empty", "Type it below the %%llm line, or after %llm")
        name, opened = self._model(request.model)
        options = self._asker.options(request)
        system = self._asker.system(request)
        turns = self._asker.conversation(text, name, request)

        def build(left_out: int) -> Sequence[Message]:
            return plain.build(text, system=system, conversation=turns[2 * left_out :])

        prompt, left_out = _fitting(opened, options, build, len(turns) // 2)
        if left_out:
            what = "1 earlier exchange" if left_out == 1 else f"{left_out} earlier exchanges"
            self._say(f"{what} left out: {name} reads {opened.info.context} tokens")
        return self._asker.one_answer(Question("llm", text, name, opened, prompt, options, request))

    def messages(self, messages: Sequence[Message], request: AskRequest, choices: Sequence[str]) -> AnswerStream:
        """Messages as they are; see ``Session.ask_messages``."""
        if not any(message.content.strip() for message in messages):
            raise InputError("the prompt is empty", "Put a question into the messages")
        request = dataclasses.replace(request, history=False)
        name, opened = self._model(request.model)
        options = self._asker.options(request)
        prompt = opened.engine.render(messages)
        question = Question("llm", messages[-1].content, name, opened, prompt, options, request)
        return self._asker.one_choice(question, choices) if choices else self._asker.one_answer(question)

    def fewshot(
        self,
        text: str | fewshot.FewShotCell,
        request: AskRequest,
        *,
        given: Sequence[Example],
        k: int | None,
        select: str,
        choices: Sequence[str],
        decide: str,
    ) -> AnswerStream:
        """A question with worked examples; see ``Session.ask_fewshot``."""
        cell = fewshot.parse_cell(text) if isinstance(text, str) else text
        pool = (*given, *cell.examples)
        if not pool:
            raise InputError(
                "there are no examples", "Type lines such as: I loved it => Positive, or name them with -e"
            )
        if choices:
            _refuse_sampling(request)
        decide = deciding.decision(decide, choices=choices, select=select, examples=pool)
        near = self._nearness.similarities
        chosen = examples.choose(pool, k=k, select=select, question=cell.question, similarity=near)
        name, opened = self._model(request.model)
        options = self._asker.options(request, temperature=0.0, repetition_penalty=1.0)
        cell = dataclasses.replace(cell, examples=chosen)
        system = self._asker.system(request)
        prompt = opened.engine.render(fewshot.build(cell, system=system))
        asked = text if isinstance(text, str) else cell.question
        question = Question("fewshot", asked, name, opened, prompt, options, request)
        if not choices:
            return self._asker.one_answer(question)
        empty = fewshot.build(deciding.content_free(cell), system=system)
        leaning = None if decide == "model" else opened.engine.render(empty)
        nearness = self._by_examples(pool, choices, cell.question) if decide == "blend" else None
        return self._asker.one_choice(question, choices, leaning=leaning, nearness=nearness)

    def cot(
        self, text: str, request: AskRequest, *, strategy: str, votes: int, given: Sequence[Example]
    ) -> AnswerStream:
        """A question whose answer comes after its reasoning; see ``Session.ask_cot``."""
        if votes < 1:
            raise InputError(f"--votes is {votes}", "It takes a whole number from 1, such as 5")
        messages = cot.build(text, strategy=strategy, examples=given, system=self._asker.system(request))
        name, opened = self._model(request.model)
        options = self._asker.options(request, repetition_penalty=1.0, **({"temperature": 0.7} if votes > 1 else {}))
        if votes > 1 and request.schema:
            raise InputError("--votes counts short answers, not those after a schema", "Leave one of them out")
        if votes > 1 and options.greedy:
            raise InputError("--votes with --temperature 0 gives the same chain each time", "Leave one of them out")
        prompt = opened.engine.render(messages)
        question = Question("cot", text, name, opened, prompt, options, request, reasons=True)
        return self._asker.majority(question, votes) if votes > 1 else self._asker.one_answer(question)

    def rag(
        self,
        text: str,
        request: AskRequest,
        retrieval: RetrievalRequest,
        *,
        given: Sequence[Example],
        reasoning: bool,
        context: bool,
        choices: Sequence[str],
    ) -> AnswerStream:
        """A question to one's own documents; see ``Session.ask_rag``."""
        from . import retrieving

        passages = retrieving.excerpts(self._knowledge(), text, retrieval) if context else ()
        if context and not passages:
            said = retrieving.nothing_found(self._knowledge(), text, retrieval)
            return self._asker.without_model("rag", text, said, request)
        name, opened = self._model(request.model)
        options = self._asker.options(request, temperature=0.0, repetition_penalty=1.0)
        system = self._asker.system(request)

        def build(step: int) -> Sequence[Message]:
            read = retrieving.shortened(passages, step)
            return rag.build(text, read, system=system, examples=given, reasoning=reasoning)

        steps = len(passages) - 1 + retrieving.HALVINGS if passages else 0
        prompt, step = _fitting(opened, options, build, steps)
        read = retrieving.shortened(passages, step)
        if read != passages:
            self._say(retrieving.said_of(passages, read, name, opened.info.context))
        question = Question("rag", text, name, opened, prompt, options, request, reasoning, read)
        return self._asker.one_choice(question, choices) if choices else self._asker.one_answer(question)

    def _by_examples(self, pool: Sequence[Example], choices: Sequence[str], question: str) -> dict[str, float]:
        """Probability of the choices that have examples, by those alone."""
        labels = deciding.matching(pool, choices)
        return self._nearness.labels([example.input for example in pool], labels, question)


def _fitting(
    opened: OpenModel, options: GenerationOptions, build: Callable[[int], Sequence[Message]], steps: int
) -> tuple[Prompt, int]:
    """The first of ever shorter prompts that leaves room for an answer, and its number; the last if none does."""
    context = opened.info.context
    for step in range(steps + 1):
        prompt = opened.engine.render(build(step))
        if prompt.token_count + min(options.max_new_tokens, context // 4) <= context:
            break
    return prompt, step


def _refuse_sampling(request: AskRequest) -> None:
    """``--choices`` weighs the given answers; nothing is generated that these options could change."""
    names = ("temperature", "top_p", "max_new_tokens", "repetition_penalty", "seed")
    given = [name for name in names if getattr(request, name) is not None] + (["stop"] if request.stop else [])
    given += ["schema"] if request.schema else ["format"] if request.format in ("json", "code") else []
    if given:
        flag = f"--{given[0].replace('_', '-')}"
        raise InputError(f"{flag} changes nothing with --choices: the most probable one is taken", f"Leave {flag} out")
