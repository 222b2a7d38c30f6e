"""Rows from files, folders and variables, and what cannot be read."""

from __future__ import annotations

import json

import pytest

from llm_magics.errors import InputError
from llm_magics.finetuning.rows import read
from llm_magics.values.messages import Example

CSV = 'prompt,completion\n"What is a, b?","It is\nthis."\nWho?,Me.\n'
ROWS = [{"prompt": "What is a, b?", "completion": "It is\nthis."}, {"prompt": "Who?", "completion": "Me."}]


def complaint(source, *args, **options):
    with pytest.raises(InputError) as caught:
        read(source, *args, **options)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV),
        ("a.csv", "\ufeff" + CSV.replace("\n", "\r\n").replace("is\r\n", "is\n")),
        ("a.csv", 'prompt;completion\nWhat is a, b?;"It is\nthis."\nWho?;Me.\n'),
        ("a.csv", 'prompt\tcompletion\nWhat is a, b?\t"It is\nthis."\nWho?\tMe.\n'),
        ("a.tsv", 'prompt\tcompletion\nWhat is a, b?\t"It is\nthis."\nWho?\tMe.\n'),
        ("a.jsonl", "\n".join(map(json.dumps, ROWS)) + "\n\n"),
        ("a.json", json.dumps(ROWS)),
    ],
)
def test_each_kind_of_file_gives_the_same_rows(write, name, content):
    assert list(read(write(name, content)).rows) == ROWS


def test_a_parquet_file_gives_the_same_rows(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra finetune is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert list(read(tmp_path / "a.parquet").rows) == ROWS


def test_a_folder_means_its_train_file_or_its_only_file(write, tmp_path):
    write("rows.csv", CSV)
    assert read(tmp_path).source.endswith("rows.csv")
    write("train.csv", CSV)
    assert read(tmp_path).source.endswith("train.csv")
    write("train.jsonl", "{}")
    assert "several files: train.csv, train.jsonl" in complaint(tmp_path)


def test_variables_give_rows(tmp_path):
    pandas = pytest.importorskip("pandas")
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]
    pair = {"prompt": "Who?", "completion": "Me."}
    assert read([("Who?", "Me.")], "pairs").rows == (pair,)
    assert read({"Who?": "Me."}, "pairs").rows == (pair,)
    assert read([Example("Who?", "Me.")], "pairs").rows == (pair,)
    assert read([pair], "pairs").rows == (pair,)
    assert read([turns], "chats").rows == ({"messages": turns},)
    assert read(["a text"], "texts").rows == ({"text": "a text"},)
    frame = pandas.DataFrame({"prompt": ["Who?", None], "completion": ["Me.", float("nan")]})
    assert read(frame, "frame").rows == (pair, {"prompt": None, "completion": None})


def test_a_line_separator_inside_a_json_string_does_not_end_the_line(write):
    line = '{"prompt": "one\u2028two", "completion": "three"}'
    assert read(write("a.jsonl", line)).rows[0]["prompt"] == "one\u2028two"


def test_a_limit_takes_the_first_rows(write):
    assert list(read(write("a.csv", CSV), limit=1).rows) == ROWS[:1]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "prompt,completion\na,b,c\n", "line 2 has more cells"),
        ("a.csv", 'prompt,completion\n"a,b\n', "cannot be read after line 1"),
        ("a.csv", '{"prompt": "a", "completion": "b"}\n', "holds JSON"),
        ("a.csv", b"PAR1\x00\x00\x15", "is binary"),
        ("a.csv", b"\xff\xfea", "is no csv file in UTF-8"),
        ("a.csv", "prompt,completion\n", "holds no rows"),
        ("a.csv", "", "holds no rows"),
        ("a.jsonl", '{"a": 1}\nprompt,completion', "line 2 is no JSON"),
        ("a.jsonl", "[1]", "line 1 is no object"),
        ("a.json", '{"a": 1}', "is no list of objects"),
        ("a.docx", "x", "is no file of rows"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_told_in_one_line(write, name, content, said):
    assert said in complaint(write(name, content))


def test_a_csv_named_parquet_is_told(write):
    pytest.importorskip("pyarrow", reason="the extra finetune is not installed")
    assert "is no Parquet file" in complaint(write("a.parquet", CSV))


def test_what_is_not_there_is_told_with_the_nearest_name(write, tmp_path):
    write("facts.csv", CSV)
    assert "Did you mean facts.csv?" in complaint(tmp_path / "fact.csv")


def test_a_value_that_is_no_set_of_examples_is_told():
    assert "is a int" in complaint(3, "n")
    assert "n[1] is a int" in complaint([("a", "b"), 3], "n")
    assert "values are no texts" in complaint({"a": 1}, "n")


def test_a_hub_data_set_without_a_network_is_told(monkeypatch):
    pytest.importorskip("datasets", reason="the extra finetune is not installed")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    assert "cannot be had from the Hugging Face Hub" in complaint("nobody/nothing-at-all")


def test_an_id_of_the_hub_may_hold_a_version(monkeypatch):
    monkeypatch.setattr("llm_magics.finetuning.rows._from_hub", lambda name, limit: [{"text": name}])
    for name in ("teknium/OpenHermes-2.5", "some/dataset"):
        assert read(name).rows == ({"text": name},)
    assert "there is no file or folder data/facts.CSV" in complaint("data/facts.CSV")


def test_a_hub_data_set_that_is_made_by_a_script_is_told(monkeypatch):
    pytest.importorskip("datasets", reason="the extra finetune is not installed")

    def refuse(*args, **options):
        raise RuntimeError("Dataset scripts are no longer supported, but found dataset.py")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    assert "Dataset scripts are no longer supported" in (said := complaint("some/dataset"))
    assert "network" not in said


@pytest.mark.parametrize("name", ["~nosuch/facts.csv", f"{'x' * 300}.csv", f"{'x' * 300}/facts.csv"])
def test_a_path_that_no_file_can_have_is_not_there(name):
    assert f"there is no file or folder {name}" in complaint(name)


def test_what_stands_for_a_missing_cell_is_none_from_every_source(write):
    pandas = pytest.importorskip("pandas")
    numpy = pytest.importorskip("numpy")
    for nothing in (float("nan"), numpy.float32("nan"), pandas.NaT, pandas.NA, numpy.datetime64("NaT"), None):
        values = [[{"prompt": "Who?", "completion": nothing}], pandas.DataFrame({"completion": [nothing, "Me."]})]
        for value in values:
            assert read(value, "rows").rows[0]["completion"] is None
    line = '{"prompt": "Who?", "completion": NaN, "more": [NaN]}'
    for name, text in (("a.jsonl", line), ("a.json", f"[{line}]")):
        assert read(write(name, text)).rows == ({"prompt": "Who?", "completion": None, "more": [None]},)


def test_arrays_and_tuples_are_lists_from_every_source():
    numpy = pytest.importorskip("numpy")
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]
    array = numpy.empty(2, dtype=object)
    array[:] = turns
    assert read([{"messages": array}, {"messages": tuple(turns)}], "x").rows == ({"messages": turns},) * 2
    (row,) = read([{"prompt": numpy.array(["a", "b"]), "completion": numpy.str_("c"), "id": numpy.int64(3)}], "x").rows
    assert row == {"prompt": ["a", "b"], "completion": "c", "id": 3} and type(row["id"]) is int


def test_columns_of_the_same_name_are_refused(write, tmp_path):
    said = complaint(write("a.csv", "prompt,completion,prompt\na,b,c\n"))
    assert "a.csv has 2 columns that are called prompt" in said
    assert read(write("a.csv", "prompt,completion,,\na,b,,\n")).rows[0]["completion"] == "b"
    pandas = pytest.importorskip("pandas")
    assert "t has 2 columns that are called a" in complaint(pandas.DataFrame([["x", "y"]], columns=["a", "a"]), "t")
    pyarrow = pytest.importorskip("pyarrow", reason="the extra finetune is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table([["x"], ["y"]], names=["a", "a"]), tmp_path / "a.parquet")
    assert "a.parquet has 2 columns that are called a" in complaint(tmp_path / "a.parquet")
