"""``%%fewshot`` and ``%%cot`` through the magics."""

from __future__ import annotations

from typing import Any

import pytest

from llm_magics import ScriptedEngine
from llm_magics.values.answers import Vote

FOOD = """%%fewshot {}
Classify the text into neutral, negative or positive.
I think the food was alright. => Neutral
The waiter ignored us. => Negative
The dessert was wonderful. => Positive
I think the food was okay."""

PAIRS = [("a1", "A"), ("a2", "A"), ("a3", "A"), ("b1", "B"), ("b2", "B")]


def shots(engine: ScriptedEngine) -> list[tuple[str, str]]:
    """The worked examples in the last prompt."""
    turns = engine.prompts[-1].messages[:-1]
    assert [turn.role for turn in turns] == ["user", "assistant"] * (len(turns) // 2)
    contents = [turn.content for turn in turns]
    return list(zip(contents[::2], contents[1::2], strict=True))


@pytest.mark.parametrize(
    ("value", "option"),
    [
        ("pairs", "pairs"),
        ("dict(pairs)", "shots"),
        ("[{'input': i, 'output': o} for i, o in pairs]", "shots"),
        ("__import__('pandas').DataFrame(pairs, columns=['text', 'label'])", "shots"),
        ("__import__('pandas').DataFrame([(1, o, i) for i, o in pairs], columns=['id', 'label', 'text'])", "shots"),
        ("open('shots.csv', 'w').write('text,label\\n' + ''.join(f'{i},{o}\\n' for i, o in pairs))", "shots.csv"),
        (
            "open('s.jsonl', 'w').write(''.join(__import__('json').dumps({'input': i, 'output': o}) + '\\n'"
            " for i, o in pairs))",
            "s.jsonl",
        ),
    ],
    ids=["pairs", "dict", "dicts", "frame", "frame-with-more-columns", "csv", "json-lines"],
)
def test_examples_come_from_a_variable_or_a_file(notebook: Any, fake: Any, value: str, option: str) -> None:
    notebook.names["pairs"] = PAIRS
    notebook.good(f"shots = {value};" if option != "pairs" else "pass")
    notebook.good(f"%%fewshot -e {option}\nc1")
    assert shots(fake) == PAIRS
    assert fake.prompts[-1].messages[-1].content == "c1"


def test_the_instruction_stands_before_the_examples_of_the_cell_and_the_variable(notebook: Any, fake: Any) -> None:
    notebook.names["more"] = [("x", "Y")]
    answer = notebook.good(FOOD.format("-e more")).value
    assert answer.method == "fewshot" and answer.options.temperature == 0 and answer.options.repetition_penalty == 1
    text = fake.prompts[-1].text
    places = [text.index(part) for part in ("Classify", "user: ", "x\n", "alright", "Negative", "wonderful", "okay")]
    assert places[2:] == sorted(places[2:]) and "Classify the text into neutral, negative or positive." in text


@pytest.mark.parametrize(
    ("options", "inputs"),
    [
        ("-k 2", ["a1", "a2"]),
        ("-k 3 --select first", ["a1", "a2", "a3"]),
        ("-k 2 --select balanced", ["a1", "b1"]),
        ("--select balanced", ["a1", "a2", "b1", "b2"]),
        ("-k {{1 + 1}}", ["a1", "a2"]),
    ],
)
def test_k_and_select_choose_the_examples(notebook: Any, fake: Any, options: str, inputs: list[str]) -> None:
    notebook.names["pairs"] = PAIRS
    notebook.good(f"%%fewshot -e pairs {options}\nc1")
    assert [example[0] for example in shots(fake)] == inputs


@pytest.mark.model
def test_similar_takes_the_examples_nearest_in_meaning_the_nearest_last(notebook: Any, fake: Any) -> None:
    notebook.names["pairs"] = [
        ("The train was late.", "travel"),
        ("My cat sleeps all day.", "animals"),
        ("The soup was cold.", "food"),
        ("Our kitten chases mice.", "animals"),
    ]
    notebook.good("%%fewshot -e pairs -k 2 --select similar\nA small cat is called a kitten.")
    assert {example[1] for example in shots(fake)} == {"animals"}
    assert shots(fake)[-1][0] == "Our kitten chases mice."


@pytest.mark.model
def test_choices_give_real_probabilities_that_sum_to_one(smollm2: Any) -> None:
    outputs = smollm2.rich()
    ran = smollm2.good(FOOD.format("--choices Neutral,Negative,Positive"))
    chances = ran.value.probabilities
    assert list(chances) == ["Neutral", "Negative", "Positive"]
    assert sum(chances.values()) == pytest.approx(1) and all(0 < chance < 1 for chance in chances.values())
    assert ran.value == max(chances, key=chances.__getitem__)
    html = outputs[-1]["data"]["text/html"]
    assert all(choice in html for choice in chances) and html.count("%") >= 3, "the probabilities are not shown"


LABELS = "Classify the text into neutral, negative or positive."
SAID = [
    ("The soup was cold and the bread was stale.", "negative"),
    ("What a lovely evening, we will come again.", "positive"),
    ("The room is on the second floor.", "neutral"),
    ("Nobody answered the phone for an hour.", "negative"),
    ("The best coffee in town.", "positive"),
    ("Breakfast is served until ten.", "neutral"),
]
ASKED = ["I loved every minute.", "Terrible, never again.", "The shop opens at nine.", "They broke my bag.", "Superb!"]


@pytest.mark.model
def test_calibration_takes_out_what_the_model_says_of_any_text(smollm2: Any) -> None:
    smollm2.names["said"] = SAID
    cells = [f"%%fewshot -e said --choices negative,neutral,positive --decide calibrated\n{LABELS}\n---\n{text}\n---"
             for text in ASKED]  # fmt: skip
    found = [smollm2.good(cell).value for cell in cells]

    def leaning(way: str) -> float:
        """How far the mean over all texts is from even: the sum of what is above a third."""
        means = [sum(answer.evidence[way][label] for answer in found) / len(found) for label in found[0].evidence[way]]
        return sum(max(mean - 1 / 3, 0) for mean in means)

    assert all(list(answer.evidence) == ["model", "calibrated"] for answer in found)
    assert all(answer.probabilities == answer.evidence["calibrated"] for answer in found)
    assert leaning("calibrated") < leaning("model"), (leaning("calibrated"), leaning("model"))


@pytest.mark.model
def test_with_similar_examples_the_answer_tells_the_model_and_the_examples_apart(smollm2: Any) -> None:
    smollm2.names["said"] = [*SAID, ("My train to Rome was late.", "travel"), ("The train was full.", "travel")]
    cell = "%%fewshot -e said --select similar --choices negative,neutral,positive,travel {}\nIs there a train to Rome?"
    outputs = smollm2.rich()
    answer = smollm2.good(cell.format("")).value
    assert list(answer.evidence) == ["model", "calibrated", "examples"]
    assert all(sum(shares.values()) == pytest.approx(1) for shares in answer.evidence.values())
    assert max(answer.evidence["examples"], key=answer.evidence["examples"].__getitem__) == "travel" == answer
    assert "the calibrated model and the examples" in outputs[-1]["data"]["text/html"]
    alone = smollm2.good(cell.format("--decide model")).value
    assert list(alone.evidence) == ["model"] and alone.probabilities == alone.evidence["model"]
    assert alone.probabilities == pytest.approx(answer.evidence["model"], abs=0.02)


def test_deciding_needs_choices_and_examples_of_them(notebook: Any, fake: Any) -> None:
    complaint = notebook.run(FOOD.format("--decide blend")).complaint
    assert "--decide goes with --choices. Type --choices positive,negative" in complaint
    assert "--decide cannot be 'vote'" in notebook.run(FOOD.format("--decide vote --choices a,b")).complaint


@pytest.mark.model
def test_examples_of_none_of_the_choices_cannot_decide(smollm2: Any) -> None:
    complaint = smollm2.run(FOOD.format("--choices red,green --decide blend")).complaint
    assert "no example has one of the choices as its output" in complaint and "--decide calibrated" in complaint


@pytest.mark.model
def test_examples_change_what_the_real_model_says(smollm2: Any) -> None:
    question = "Classify the text into neutral, negative or positive.\\nI think the food was okay."
    zero = smollm2.good(f"%%llm -t 0 --max-new-tokens 20\n{question}").value
    few = smollm2.good(FOOD.format("--max-new-tokens 20")).value
    assert few.strip().lower().startswith("neutral")
    assert not zero.strip().lower().startswith("neutral")


def test_an_engine_without_probabilities_refuses_choices(notebook: Any, fake: Any) -> None:
    assert "fake cannot give probabilities. Leave --choices out" in (
        notebook.run(FOOD.format("--choices Neutral,Negative")).complaint
    )


def test_the_final_answer_is_apart_from_its_reasoning(notebook: Any) -> None:
    engine = notebook.answers("1. There are 3.\n2. And 2 more.\nAnswer: 5")
    answer = notebook.good("%%cot -o kept\nHow many?").value
    assert answer == answer.text == "5" and answer.parsed
    assert answer.reasoning == "1. There are 3.\n2. And 2 more."
    assert "How many?" in engine.prompts[-1].text and "Answer:" in engine.prompts[-1].text
    assert notebook.names["kept"] is answer


def test_reasoning_without_a_final_answer_is_marked_and_never_guessed(notebook: Any) -> None:
    notebook.answers("It may be 5 or 6.")
    ran = notebook.good("%%cot\nHow many?")
    assert not ran.value.parsed and ran.value == ran.value.text == ""
    assert ran.value.reasoning == "It may be 5 or 6."
    assert "No final answer found" in ran.printed
    outputs = notebook.rich()
    notebook.good("%%cot\nHow many?")
    assert "No final answer found" in str(outputs[-1])


@pytest.mark.parametrize(
    ("chains", "text", "votes"),
    [
        (["x\nAnswer: 4", "y\nAnswer: 5", "z\nAnswer: **5.**"], "5", (Vote("5", 2), Vote("4", 1))),
        (["Answer: 4", "Answer: 5", "no idea"], "4", (Vote("4", 1), Vote("5", 1))),
        (["no idea", "Answer: 5", "no idea"], "5", (Vote("5", 1),)),
        (["no idea", "none", "nothing"], "", ()),
    ],
    ids=["majority", "tie", "one-parsed", "none-parsed"],
)
def test_votes_take_the_most_frequent_final_answer(
    notebook: Any, chains: list[str], text: str, votes: tuple[Vote, ...]
) -> None:
    engine = notebook.answers(*chains)
    ran = notebook.good("%%cot --votes 3 --seed 10\nHow many?")
    assert len(engine.prompts) == 3 and len({prompt.text for prompt in engine.prompts}) == 1
    assert ran.value.text == text and ran.value.votes == votes
    assert ran.value.parsed == bool(votes)
    assert ran.value.options.temperature == 0.7
    assert all(f"Chain {number}" in ran.value.reasoning for number in (1, 2, 3))
    assert ran.value.usage.new_tokens == sum(len(chain.split()) for chain in chains)


def test_each_chain_has_a_seed_of_its_own(notebook: Any) -> None:
    seeds = []

    class Seeing(ScriptedEngine):
        def stream(self, prompt: Any, options: Any, stop: Any) -> Any:
            seeds.append(options.seed)
            return super().stream(prompt, options, stop)

    notebook.session.add("seeing", Seeing(["Answer: 1"]))
    notebook.good("%%cot --votes 3 --seed 10\nHow many?")
    assert seeds == [10, 11, 12]


def test_the_vote_is_shown(notebook: Any) -> None:
    notebook.answers("Answer: llamas", "Answer: alpacas", "Answer: llamas")
    outputs = notebook.rich()
    notebook.good("%%cot --votes 3\nWhich?")
    html = outputs[-1]["data"]["text/html"]
    assert "llamas" in html and "alpacas" in html and "2" in html


@pytest.mark.parametrize(
    ("strategy", "words"),
    [("steps", "numbered steps"), ("plan", "make a short plan"), ("zero-shot", "Let's think step by step")],
)
def test_each_strategy_asks_in_its_own_words(notebook: Any, fake: Any, strategy: str, words: str) -> None:
    notebook.good(f"%%cot --strategy {strategy}\nHow many?")
    assert words in fake.prompts[-1].text


def test_worked_examples_of_reasoning_stand_before_the_question(notebook: Any, fake: Any) -> None:
    notebook.names["worked"] = [("1 + 1?", "One and one.\nAnswer: 2")]
    notebook.good("%%cot -e worked\n2 + 2?")
    assert [message.role for message in fake.prompts[-1].messages] == ["user", "assistant", "user"]


@pytest.mark.model
def test_a_real_chain_of_thought_has_reasoning_and_an_answer_apart(smollm2: Any) -> None:
    answer = smollm2.good(
        "%%cot -t 0 --max-new-tokens 120\nTom has 3 apples and buys 2 more apples. How many apples has Tom?"
    ).value
    assert answer.reasoning
    assert answer.parsed == bool(answer.text)
