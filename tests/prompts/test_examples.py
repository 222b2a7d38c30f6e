from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_magics.errors import InputError
from llm_magics.prompts.examples import choose, from_value, read_file
from llm_magics.values.messages import Example

TWO = (Example("good", "Positive"), Example("bad", "Negative"))


@pytest.mark.parametrize(
    "value",
    [
        [("good", "Positive"), ["bad", "Negative"]],
        {"good": "Positive", "bad": "Negative"},
        [{"label": "Positive", "id": 1, "Text": "good"}, {"label": "Negative", "id": 2, "Text": "bad"}],
        [{"a": "good", "b": "Positive"}, {"a": "bad", "b": "Negative"}],
        TWO,
        (pair for pair in [("good", "Positive"), ("bad", "Negative")]),
    ],
)
def test_examples_come_in_the_forms_a_person_has_them_in(value: object):
    assert from_value(value, "shots") == TWO


def test_a_data_frame_is_read_by_its_column_names_and_else_by_position():
    pandas = pytest.importorskip("pandas")
    columns = {"label": ["Positive", "Negative"], "id": [1, 2], "text": ["good", "bad"]}
    assert from_value(pandas.DataFrame(columns), "df") == TWO
    assert from_value(pandas.DataFrame({"x": ["good", "bad"], "y": ["Positive", "Negative"]}), "df") == TWO
    with pytest.raises(InputError, match="df has no two columns"):
        from_value(pandas.DataFrame({"x": ["good"]}), "df")
    with pytest.raises(InputError, match="item 1 of df has no output"):
        from_value(pandas.DataFrame({"x": ["good"], "y": [float("nan")]}), "df")


def test_numbers_become_text():
    assert from_value([(1, 2.5)], "shots") == (Example("1", "2.5"),)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("a => b", "shots is a str"),
        (3, "shots is a int"),
        ([], "shots holds no examples"),
        ([("a", "b"), ("c",)], "item 2 of shots is not an input and an output"),
        (["ab"], "item 1 of shots is not an input and an output"),
        ([("a", None)], "item 1 of shots has no output"),
        ([("", "b")], "item 1 of shots has no input"),
    ],
)
def test_a_value_that_holds_no_examples_is_one_line_with_what_to_give(value: object, part: str):
    with pytest.raises(InputError) as caught:
        from_value(value, "shots")
    assert part in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "label,text\nPositive,good\n\nNegative,bad\n"),
        ("a.csv", '\ufefftext,label\r\n"good",Positive\r\nbad,Negative\r\n'),
        ("a.tsv", "x\ty\ngood\tPositive\nbad\tNegative"),
        (
            "a.jsonl",
            '{"completion": "Positive", "prompt": "good"}\n\n{"prompt": "bad", "completion": "Negative"}\n',
        ),
        ("A.JSONL", '["good", "Positive"]\n["bad", "Negative"]'),
    ],
)
def test_examples_are_read_from_files(tmp_path: Path, name: str, content: str):
    file = tmp_path / name
    file.write_bytes(content.encode())
    assert read_file(file) == TWO
    assert read_file(str(file)) == TWO


def test_a_quoted_cell_may_hold_commas_and_lines(tmp_path: Path):
    file = tmp_path / "a.csv"
    file.write_text('question,answer\n"one,\ntwo",3\n')
    assert read_file(file) == (Example("one,\ntwo", "3"),)


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", b"text,label\n", "has a header and no examples"),
        ("a.csv", b"text\ngood\n", "a.csv has one column"),
        ("a.csv", b"text,label\ngood,Positive\nbad\n", "line 3 of a.csv has no output"),
        ("a.csv", b"text,label\nbad\xff,x\n", "a.csv is not UTF-8 text: byte 14"),
        ("a.csv", b'text,label\n"a" b,c\n', "line 2 of a.csv is not CSV"),
        ("a.jsonl", b'{"input": "a", "output": "b"}\n{"input": \n', "line 2 of a.jsonl is not JSON"),
        ("a.jsonl", b'{"input": "a"}\n', "line 1 of a.jsonl has no two"),
        ("a.jsonl", b"3\n", "line 1 of a.jsonl is not an input and an output"),
        ("a.txt", b"a,b\n", "a.txt is not a file of examples"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_with_the_place(tmp_path: Path, name: str, content: bytes, part: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_file(tmp_path / name)
    assert part in str(caught.value)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_missing_file_offers_the_nearest_names(tmp_path: Path):
    (tmp_path / "shots.csv").touch()
    with pytest.raises(InputError, match=r"Did you mean shots\.csv\?"):
        read_file(tmp_path / "shot.csv")
    with pytest.raises(InputError, match="there is no folder"):
        read_file(tmp_path / "nowhere" / "shot.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_file(tmp_path)


MANY = tuple(Example(f"{label}{i}", label) for i in range(3) for label in "aab")


def outputs(chosen: tuple[Example, ...]) -> str:
    return "".join(example.output for example in chosen)


def test_k_takes_the_first_and_no_k_takes_all():
    assert choose(MANY, k=None, select="all", question="q", similarity=None) == MANY
    assert choose(MANY, k=2, select="all", question="q", similarity=None) == MANY[:2]
    assert choose(MANY, k=2, select="first", question="q", similarity=None) == MANY[:2]


def test_balanced_takes_each_output_as_often_and_keeps_the_order():
    assert outputs(choose(MANY, k=4, select="balanced", question="q", similarity=None)) == "aabb"
    assert outputs(choose(MANY, k=None, select="balanced", question="q", similarity=None)) == "aababb"


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12), st.data())
def test_balanced_counts_differ_by_one_at_most_unless_an_output_runs_out(labels: list[str], data: st.DataObject):
    examples = tuple(Example(str(i), label) for i, label in enumerate(labels))
    k = data.draw(st.integers(1, len(labels)))
    chosen = choose(examples, k=k, select="balanced", question="q", similarity=None)
    assert len(chosen) == k
    assert sorted(chosen, key=examples.index) == list(chosen)
    taken = outputs(chosen)
    most = max(taken.count(label) for label in set(labels))
    assert all(taken.count(label) in (most, most - 1, labels.count(label)) for label in set(labels))


def test_the_most_similar_example_stands_next_to_the_question():
    examples = tuple(Example(text, "x") for text in ("far", "near", "nearest", "farthest"))
    scores = {"far": 0.2, "near": 0.5, "nearest": 0.9, "farthest": 0.1}
    chosen = choose(
        examples, k=2, select="similar", question="q", similarity=lambda texts, _: [scores[text] for text in texts]
    )
    assert [example.input for example in chosen] == ["near", "nearest"]


@pytest.mark.parametrize(
    ("k", "select", "part"),
    [
        (0, "all", "-k is 0"),
        (10, "first", "-k is 10 and there are 9"),
        (1, "balance", "Did you mean balanced?"),
        (1, "similar", "--select balanced"),
    ],
)
def test_a_choice_that_cannot_be_made_says_what_to_type(k: int, select: str, part: str):
    with pytest.raises(InputError) as caught:
        choose(MANY, k=k, select=select, question="q", similarity=None)
    assert part in str(caught.value)
