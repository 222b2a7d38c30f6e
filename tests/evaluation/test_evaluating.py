"""Evaluations through the session, with a scripted model."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from labelled import ANIMALS, sounds

from llm_magics import Example, LLMMagicsError, Message, ScriptedEngine, Session
from llm_magics.display.evaluation import chart, evaluation_text
from llm_magics.errors import ContextLengthError, InputError, MissingPackageError
from llm_magics.evaluation.store import AnswerStore, StoredAnswer
from llm_magics.settings import LLMMagics
from llm_magics.values.answers import Usage
from llm_magics.values.asking import AskRequest
from llm_magics.values.evaluation import EvaluationReport, EvaluationRequest

ROOT = Path(__file__).parents[2]


def evaluated(session: Session, data: object = ANIMALS, **options: Any) -> Any:
    given = {name: options.pop(name) for name in ("examples", "trained_on") if name in options}
    return session.evaluate(data, EvaluationRequest(**options), name="animals", **given).run()


def test_the_table_has_a_row_for_each_method_and_the_two_that_need_no_model(session: Session, animals: Any) -> None:
    evaluation = evaluated(session, methods=("llm", "fewshot:4", "cot"))
    assert list(evaluation.index) == ["llm", "fewshot:4", "cot", "majority", "neighbours"]
    assert evaluation.loc["llm", "score"] == 1.0 and evaluation.loc["llm", "rows"] == 20
    assert evaluation.loc["neighbours", "score"] == 1.0  # words alone tell cats from dogs
    assert evaluation.loc["majority", "score"] < 0.8
    assert evaluation.loc["cot", "unparsed"] == 20 and evaluation.loc["cot", "wrong"] == 0
    assert evaluation.report.metric == "choice" and evaluation.report.labels == ("cat", "dog")


def test_an_evaluation_is_a_data_frame_and_what_is_taken_from_it_a_plain_one(session: Session, animals: Any) -> None:
    evaluation = evaluated(session, methods=("llm",))
    assert isinstance(evaluation, pd.DataFrame)
    assert type(evaluation[evaluation.score > 0.5]) is pd.DataFrame
    assert len(pd.concat([evaluation, evaluation])) == 6
    assert evaluation.to_csv().startswith("method,model,rows,right")


def test_examples_are_never_asked_and_are_balanced(session: Session, animals: Any) -> None:
    evaluation = evaluated(session, methods=("fewshot:4",))
    asked = set(evaluation.outcomes.row)
    shown = {m.content for p in animals.prompts for m in p.messages[:-1] if m.role == "user"}
    texts = {text.rpartition("\n\n")[2] for text in shown}
    known = {text: place for place, (text, _) in enumerate(ANIMALS)}
    assert texts and asked.isdisjoint(known[text] for text in texts)
    assert evaluation.report.examples == 20 and len(asked) == 20
    assert not evaluation.report.leaks
    left = [label for place, (_, label) in enumerate(ANIMALS) if place not in asked]
    assert left.count("cat") == left.count("dog") == 10


@pytest.mark.parametrize("seed", range(6))
def test_the_most_frequent_label_is_that_of_the_data_not_of_the_balanced_examples(session: Session, seed: int) -> None:
    session.add("fake", ScriptedEngine(sounds))
    rows = [(f"woof {n}", "dog") for n in range(60)] + [(f"meow {n}", "cat") for n in range(40)]
    evaluation = evaluated(session, rows, methods=("llm",), seed=seed)
    assert set(evaluation.report.of("majority")[n].answer for n in range(50)) == {"dog"}


def test_a_judge_is_not_asked_about_what_asks_no_model(session: Session, animals: Any) -> None:
    session.add("judge", ScriptedEngine("yes"))
    with pytest.raises(InputError, match=r"majority asks no model, and a judge judges models\. Leave it out"):
        evaluated(session, methods=("llm", "majority"), metric="judge", judge="judge")
    assert not animals.prompts


def test_only_its_owner_can_read_the_answers_that_are_kept(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        store = AnswerStore(tmp_path / "answers" / "answers.sqlite")
        store.put("key", StoredAnswer("secret", "", True, "end", Usage()))
        files = list((tmp_path / "answers").iterdir())
        assert len(files) == 3 and {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        store.close()
    finally:
        os.umask(before)


def test_the_most_similar_example_stands_next_to_the_question(session: Session, animals: Any) -> None:
    evaluated(session, methods=("fewshot:2",), rows=3)
    for prompt in animals.prompts:
        question, example = prompt.messages[-1].content, prompt.messages[-3].content
        assert ("meow" in question) == ("meow" in example)


def test_labels_are_weighed_where_the_engine_can_and_it_is_told_where_it_cannot(session: Session) -> None:
    class Weighs(ScriptedEngine):
        def score(self, prompt: Any, choices: Sequence[str], stop: Any) -> tuple[float, ...]:
            return tuple(0.9 if choice in sounds(prompt.messages) else 0.1 for choice in choices)

    session.add("weighs", Weighs(["I will not say."]))
    session.add("writes", ScriptedEngine(sounds))
    evaluation = evaluated(session, methods=("weighs", "weighs+llm:text", "writes"))
    assert list(evaluation.unparsed[:3]) == [0, 20, 0]
    assert list(evaluation.new_tokens[:2]) == [0, 4]
    assert "writes gives no probabilities of labels: its answers are free text." in evaluation.report.notes


def test_what_decides_between_labels_can_be_named_and_has_answers_of_its_own(session: Session) -> None:
    class Wrong(ScriptedEngine):
        def score(self, prompt: Any, choices: Sequence[str], stop: Any) -> tuple[float, ...]:
            return tuple(0.6 if choice == "cat" else 0.4 for choice in choices)

    session.add("wrong", Wrong([]))
    evaluation = evaluated(session, methods=("fewshot:4:model", "fewshot:4"))
    assert evaluation.loc["fewshot:4:model", "score"] == 0.5 and evaluation.loc["fewshot:4", "score"] == 1.0
    assert evaluation.report.cached == 0


def test_a_free_text_set_is_asked_without_labels(session: Session) -> None:
    session.add("fake", ScriptedEngine(lambda messages: "It is Rome." if "Italy" in messages[-1].content else "Oslo"))
    cities = [
        {"q": f"{n}. capital of {land}?", "a": a}
        for n in range(8)
        for land, a in (("Italy", "Rome"), ("Spain", "Madrid"))
    ]
    evaluation = evaluated(session, cities, methods=("llm",), input="q", expected="a", metric="contains")
    assert list(evaluation.index) == ["llm"] and evaluation.loc["llm", "rows"] == 16
    assert evaluation.loc["llm", "score"] == 0.5


def test_drill_down_shows_errors_confusions_and_disagreements_with_exact_prompts(session: Session) -> None:
    session.add("fake", ScriptedEngine(lambda messages: "cat"))
    evaluation = evaluated(session, methods=("llm",))
    errors = evaluation.errors("llm")
    assert set(errors.expected) == {"dog"} and len(errors) == 10
    assert errors.prompt[0].endswith(f"{errors.input[0]}\nassistant:")
    confusion = evaluation.confusion("llm")
    assert confusion.loc["dog", "cat"] == 10 and confusion.loc["cat", "cat"] == 10
    apart = evaluation.disagreements("llm", "neighbours")
    assert len(apart) == 10 and set(apart["neighbours state"]) == {"right"}
    assert apart["llm prompt"][0] == errors.prompt[0]
    with pytest.raises(InputError, match=r"there is no method lm in this evaluation. Did you mean llm\?"):
        evaluation.errors("lm")


def test_the_conclusion_is_computed_from_the_rows(session: Session) -> None:
    def tells(messages: Sequence[Message]) -> str:
        asked = messages[-1].content.rpartition("\n\n")[2]
        return "cat" if len(messages) < 2 or "meow" in asked else "dog"

    session.add("fake", ScriptedEngine(tells))
    report: EvaluationReport = evaluated(session, methods=("llm", "fewshot:4")).report
    assert report.conclusions[0] == "fewshot:4 beats llm: +50 points, 95 % interval 21 to 70."
    assert any("20 rows are few" in sentence for sentence in report.conclusions)
    assert evaluated(session, methods=("llm", "fewshot:4")).difference("fewshot:4", "llm").p == pytest.approx(2 / 2**10)


def test_with_too_few_rows_it_says_how_many_would_be_needed(session: Session) -> None:
    session.add("fake", ScriptedEngine(lambda messages: "dog" if "small" in messages[-1].content else "cat"))
    session.add("other", ScriptedEngine(lambda messages: "cat"))
    report = evaluated(session, methods=("fake", "other")).report
    sentence = report.conclusions[0]
    assert sentence.startswith("other against fake: not distinguishable with 20 rows (")
    assert "would be needed for 5 points." in sentence


def test_failed_rows_are_in_no_figure_and_unparsed_ones_are_not_wrong(session: Session) -> None:
    def grumbles(messages: Sequence[Message]) -> str:
        text = messages[-1].content
        if "number 3" in text:
            raise ContextLengthError("the prompt is too long", "Shorten it")
        return "no idea" if "number 4" in text else "cat"

    session.add("fake", ScriptedEngine(grumbles))
    evaluation = evaluated(session, methods=("llm",), example_rows=0)
    row = evaluation.loc["llm"]
    assert (row["failed"], row["unparsed"], row["wrong"], row["right"]) == (4, 4, 16, 16)
    assert row["rows"] == 36 and row["score"] == pytest.approx(16 / 36)
    assert any("left out of every figure: llm: 4" in note for note in evaluation.report.notes)
    failed = evaluation.errors("llm").query("state == 'failed'")
    assert set(failed.note) == {"the prompt is too long. Shorten it"}


def test_a_method_that_fails_at_every_row_is_a_mistake_and_not_a_score(session: Session) -> None:
    def refuses(messages: Sequence[Message]) -> str:
        raise ContextLengthError("the prompt is too long", "Shorten it")

    session.add("fake", ScriptedEngine(refuses))
    with pytest.raises(ContextLengthError, match="the prompt is too long"):
        evaluated(session, methods=("llm",))


def test_what_a_session_says_of_one_answer_is_not_said_of_every_row() -> None:
    said: list[str] = []
    session = Session(LLMMagics(embedding="hashing-256"), say=said.append)
    session.add("fake", ScriptedEngine(["cat"], context=200))
    session.knowledge.add_text("cats and dogs " * 400).run()
    evaluated(session, methods=("rag",), rows=3)
    assert said == []
    session.ask_rag("cats or dogs?")
    assert len(said) == 1 and "The model reads" in said[0]


def test_planted_leaks_are_found_and_can_be_left_out(session: Session, animals: Any, tmp_path: Path) -> None:
    examples = [Example(f"  THE old cat, says meow: number {n}!", "cat") for n in (1, 2)] + [Example("a dog", "dog")]
    trained = [(ANIMALS[7][0], "cat"), ("something else", "dog")]
    session.knowledge.add_text(f"Some words. {ANIMALS[30][0].upper()}. And more.").run()
    options: dict[str, Any] = {"examples": examples, "trained_on": trained, "methods": ("llm", "rag")}
    leaks = {leak.where: leak.rows for leak in evaluated(session, **options).report.leaks}
    assert leaks == {"examples": (2, 4), "training rows": (7,), "knowledge base": (30,)}
    dropped = evaluated(session, drop_leaks=True, **options)
    assert set(dropped.outcomes.row) == set(range(40)) - {2, 4, 7, 30}
    assert any("left out" in note for note in dropped.report.notes)


def test_rows_beside_a_tuned_models_adapter_are_its_training_rows(session: Session, tmp_path: Path) -> None:

    job = tmp_path / "finetuned" / "pets"
    (job / "adapter").mkdir(parents=True)
    (job / "train.jsonl").write_text(
        json.dumps({"messages": [{"role": "user", "content": ANIMALS[5][0]}, {"role": "assistant", "content": "cat"}]})
    )
    engine = ScriptedEngine(["cat"])
    info = dataclasses.replace(engine.info(), source=str(job / "adapter"))
    engine.info = lambda: info  # type: ignore[method-assign]
    session.add("pets", engine)
    (leak,) = evaluated(session, methods=("pets",), examples=[Example("x", "cat"), Example("y", "dog")]).report.leaks
    assert (leak.where, leak.name, leak.rows) == ("training rows", "pets", (5,))


def test_a_second_run_asks_nothing_and_one_more_method_costs_only_itself(session: Session, animals: Any) -> None:
    first = evaluated(session, methods=("llm", "cot"))
    asked = len(animals.prompts)
    again = evaluated(session, methods=("llm", "cot", "fewshot:4"))
    assert len(animals.prompts) == asked + 20 and again.report.cached == 40
    pd.testing.assert_frame_equal(
        pd.DataFrame(again.loc[first.index][first.columns[:12]]), pd.DataFrame(first[first.columns[:12]])
    )
    evaluated(session, methods=("llm",), cache=False)
    assert len(animals.prompts) == asked + 40


def test_another_option_or_model_is_another_answer(session: Session, animals: Any) -> None:
    evaluated(session, methods=("llm",), rows=5)
    evaluated(session, methods=("llm",), rows=5, ask=AskRequest(max_new_tokens=7))
    assert len(animals.prompts) == 10
    session.add("other", ScriptedEngine(["dog"]))
    assert evaluated(session, methods=("other",), rows=5).report.cached == 0


KILLED = """
import sys, time
from llm_magics import ScriptedEngine, Session
from llm_magics.values.evaluation import EvaluationRequest
from llm_magics.settings import LLMMagics
sys.path.insert(0, {tests!r})
from labelled import ANIMALS, sounds

def slowly(messages):
    time.sleep(float(sys.argv[1]))
    return sounds(messages)

session = Session(LLMMagics(embedding="hashing-256"), say=lambda line: None)
session.add("fake", ScriptedEngine(slowly))
running = session.evaluate(ANIMALS, EvaluationRequest(methods=("llm", "cot", "fewshot:4")))
for progress in running:
    print(progress.done, flush=True)
table = running.result
print("TABLE", table.drop(columns="seconds").to_json(), running.result.report.cached)
"""


def test_a_killed_evaluation_goes_on_and_gives_the_same_table_as_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "child.py"
    script.write_text(textwrap.dedent(KILLED).format(tests=str(Path(__file__).parent)))

    def start(pause: str) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, str(script), pause], stdout=subprocess.PIPE, text=True, cwd=ROOT)

    child = start("0.05")
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= 25:
            break
    child.send_signal(signal.SIGKILL)
    child.wait()
    resumed, _ = start("0").communicate(timeout=120)
    monkeypatch.setenv("LLM_MAGICS_CACHE", str(tmp_path / "another"))
    unbroken, _ = start("0").communicate(timeout=120)
    table, cached = (resumed.splitlines()[-1].removeprefix("TABLE ")).rsplit(" ", 1)
    expected, none = (unbroken.splitlines()[-1].removeprefix("TABLE ")).rsplit(" ", 1)
    assert int(cached) >= 17 and int(none) == 0  # of those 25 answers, 8 asked no model
    assert table == expected


def test_a_stop_keeps_the_rows_that_are_done_by_every_method(session: Session, animals: Any) -> None:
    data = [(f"{text} again {n}", label) for n in range(4) for text, label in ANIMALS]
    running = session.evaluate(data, EvaluationRequest(methods=("llm", "cot")))
    for progress in running:
        if progress.done == 150:
            running.stop()
    report = running.result.report
    assert not report.complete and any("Stopped" in note for note in report.notes)
    assert all(score.rows >= 28 for score in report.methods)


def test_a_stop_after_a_few_answers_has_asked_every_method(session: Session, animals: Any) -> None:
    running = session.evaluate(ANIMALS, EvaluationRequest(methods=("llm", "cot")))
    for progress in running:
        if progress.done == 8:
            running.stop()
    llm, cot = running.result.report.methods[:2]
    assert (llm.rows, cot.rows) == (4, 4)


def test_a_method_that_was_not_asked_yet_has_no_score_and_no_p_value(session: Session, animals: Any) -> None:
    running = session.evaluate(ANIMALS, EvaluationRequest(methods=("llm", "cot", "fewshot:2")))
    for progress in running:
        if progress.done == 3:
            running.stop()
    evaluation = running.result
    text = evaluation_text(evaluation.report)
    assert next(line.split()[1:] for line in text.splitlines() if line.startswith("cot  ")) == ["not", "asked", "yet"]
    table = next(line for line in text.splitlines() if line.startswith("cot") and line.endswith("0"))
    assert "%" not in table and " to " not in table and "1.00" not in table
    assert evaluation.loc["llm", "score"] == 1.0 and pd.isna(evaluation.loc["cot", ["score", "low", "p"]]).all()
    assert "cot was not asked yet: nothing can be said of it." in evaluation.report.conclusions
    assert chart(evaluation.report).count("<rect") == 1


def test_an_answer_that_runs_when_it_is_stopped_is_not_counted(session: Session) -> None:
    session.add("fake", ScriptedEngine(["cat and more words"], tokens_per_second=20))
    running = session.evaluate(ANIMALS, EvaluationRequest(methods=("llm",)))
    seen = []
    for progress in running:
        seen.append(progress)
        if progress.done == 1:
            running.stop()
    assert len(running.result.report.outcomes) == 1


def test_a_judge_sees_both_orders_and_says_half_where_it_changes_its_mind(session: Session) -> None:
    def judge(messages: Sequence[Message]) -> str:
        return "Yes." if "First answer:\nparis" in messages[-1].content else "No."

    session.add("judge", ScriptedEngine(judge))
    session.add("fake", ScriptedEngine(["paris"]))
    rows = [{"q": f"question {n}", "a": "Paris it is"} for n in range(6)]
    options: dict[str, Any] = {"input": "q", "expected": "a", "metric": "judge", "judge": "judge", "methods": ("llm",)}
    evaluation = evaluated(session, rows, **options)
    assert evaluation.loc["llm", "score"] == 0.5 and evaluation.loc["llm", "partly"] == 6
    assert any("weaker evidence" in sentence for sentence in evaluation.report.conclusions)
    assert evaluation.outcomes.note[0] == "the judge said Yes. and No."


def test_a_model_may_judge_its_own_answers_and_that_is_told(session: Session) -> None:
    session.add("fake", ScriptedEngine(lambda messages: "yes" if "Two answers" in messages[0].content else "paris"))
    rows = [{"q": f"question {n}", "a": "Paris"} for n in range(40)]
    evaluation = evaluated(session, rows, input="q", expected="a", metric="judge", judge="fake", methods=("llm",))
    assert evaluation.loc["llm", "right"] == 40
    assert "fake judges its own answers too." in evaluation.report.notes


def test_rows_are_answered_at_once_where_the_engine_can(session: Session) -> None:
    batches: list[int] = []

    class Together(ScriptedEngine):
        def stream_batch(self, prompts: Any, options: Any, stop: Any) -> Any:
            batches.append(len(prompts))
            return super().stream_batch(prompts, options, stop)

    session.add("fake", Together(sounds))
    evaluation = evaluated(session, methods=("llm",), example_rows=4)
    assert batches == [4, 8, 16, 8] and evaluation.loc["llm", "score"] == 1.0
    session.add("alone", ScriptedEngine(sounds))
    assert list(evaluated(session, methods=("alone",), example_rows=4).score) == list(evaluation.score)


@pytest.mark.parametrize(
    ("data", "options", "complaint"),
    [
        (ANIMALS, {"input": "txt"}, "animals has no column txt. It has prompt, completion"),
        ([], {}, "animals holds no rows"),
        ([{"q": "a", "a": ""}], {"input": "q", "expected": "a"}, "animals has no row with both q and a"),
        ([{"q": "a", "a": "b"}], {}, "animals has the columns q, a. Type --input"),
        (ANIMALS, {"input": "prompt", "expected": "prompt"}, "--input and --expected are both prompt"),
        (ANIMALS, {"methods": ("fewsho",)}, "Did you mean fewshot?"),
        (ANIMALS, {"methods": ("fewshot:30",)}, "fewshot:30 needs 30 examples and there are 20"),
        (ANIMALS, {"methods": ("fewshot",), "example_rows": 0}, "fewshot needs examples and there are none"),
        (ANIMALS, {"example_rows": 40}, "--example-rows 40 leaves no row to ask of 40"),
        ([(text, "cat") for text, _ in ANIMALS], {"metric": "choice"}, "every row expects 'cat'"),
        (ANIMALS, {"metric": "judge"}, "--metric judge needs a judge. Type --judge NAME"),
        (ANIMALS, {"judge": "fake"}, "--judge goes with --metric judge, and the metric is choice"),
        (ANIMALS, {"methods": ("rag",)}, "there is no knowledge base"),
        (ANIMALS, {"ask": AskRequest(model="nobody")}, "no model nobody is loaded"),
        ("nothing.csv", {}, "there is no file or folder nothing.csv"),
        (ANIMALS, {"rows": -1}, "--rows is -1"),
    ],
)
def test_a_mistake_is_told_before_anything_is_asked(
    session: Session, animals: Any, data: object, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(LLMMagicsError) as caught:
        session.evaluate(data, EvaluationRequest(**options), name="animals")
    assert complaint in str(caught.value) and caught.value.hint and animals.prompts == []


@pytest.mark.parametrize("package", ["scipy", "pandas"])
def test_a_missing_package_is_told_before_anything_is_asked(
    session: Session, animals: Any, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf'{package} is not installed. Type %pip install "llm_magics\[eval'):
        session.evaluate(ANIMALS, EvaluationRequest(methods=("llm",)))
    assert animals.prompts == []


def test_rows_that_lack_a_cell_are_left_out_and_told(session: Session, animals: Any) -> None:
    frame = pd.DataFrame([*ANIMALS, ("no label", None), (None, "cat")], columns=["text", "label"])
    report = evaluated(session, frame, methods=("llm",)).report
    assert "2 rows lack text or label and are left out." in report.notes


def test_numbers_in_a_column_of_floats_are_read_as_a_person_reads_them(session: Session) -> None:
    session.add("fake", ScriptedEngine(["It is 18."]))
    frame = pd.DataFrame({"question": [f"sum {n}?" for n in range(9)], "answer": [18.0, 2.5, None, 4, 5, 6, 7, 8, 9]})
    evaluation = evaluated(session, frame, methods=("llm",))
    assert evaluation.report.metric == "number" and evaluation.loc["llm", "right"] == 1
    assert list(evaluation.outcomes.expected[:2]) == ["18", "2.5"]


def test_a_damaged_cache_is_made_anew_and_a_full_one_forgets_the_oldest(tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    file.write_bytes(b"no database at all" * 200)
    store = AnswerStore(file, largest=2000)
    answer = StoredAnswer("x" * 100, "", True, "end", Usage(1, 2, 0.0, 0.5))
    for number in range(40):
        store.put(f"key {number}", answer)
        time.sleep(0.001)
    assert store.get("key 0") == answer  # used again: now it is the youngest
    store.close()
    store = AnswerStore(file, largest=2000)
    assert store.get("key 0") == answer and store.get("key 1") is None and store.get("key 39") == answer
    store.close()
    assert file.stat().st_mode & 0o077 == 0


def test_without_a_place_for_the_cache_the_evaluation_goes_on(
    session: Session, animals: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("LLM_MAGICS_CACHE", str(tmp_path / "a file"))
    report = evaluated(session, methods=("llm",)).report
    assert report.complete and any("not kept on disk" in note for note in report.notes)


def test_overhead_is_at_most_two_milliseconds_a_row(session: Session, animals: Any) -> None:
    rows = [(f"{text} again {n}", label) for n in range(25) for text, label in ANIMALS]
    running = session.evaluate(rows, EvaluationRequest(methods=("llm", "cot", "fewshot:4"), example_rows=20))
    begin = time.process_time()
    report = running.run().report
    spent = (time.process_time() - begin) / (3 * len({outcome.row for outcome in report.outcomes}))
    assert spent < 0.004, f"{1000 * spent:.2f} ms a row"  # 2 ms on a quiet machine: benchmarks/evaluation.py
