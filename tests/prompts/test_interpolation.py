from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_magics.errors import InputError
from llm_magics.prompts.interpolation import interpolate


@given(st.text().filter(lambda text: "{{" not in text))
def test_text_without_double_braces_is_untouched(text: str):
    assert interpolate(text, {}) == text


@given(st.text(alphabet="{}a1:\"', \n", max_size=40))
def test_text_full_of_braces_is_text_or_one_error(text: str):
    try:
        assert isinstance(interpolate(text, {"a": "value"}), str)
    except InputError as error:
        assert "\n" not in str(error)


@given(st.text(), st.text(), st.text())
def test_a_string_is_put_in_as_it_is_and_not_read_again(before: str, value: str, after: str):
    before, after = before.replace("{", ""), after.replace("}", "")
    assert interpolate(before + "{{value}}" + after, {"value": value}) == before + value + after


@pytest.mark.parametrize(
    "text",
    [
        '{"a": {"b": 1}} }}',
        r"$\frac{a}{b}$ and ${{n}\choose{k}}$",
        "{{#if user}} {{/if}} {{ a b }} {{}} {{",
        "def f(): return {'x': {'y': 1}}",
        "it costs $5, {x} and {0}",
    ],
)
def test_what_is_no_python_expression_is_untouched(text: str):
    assert interpolate(text, {}) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ x + 1 }} and {{x}}", "4 and 3"),
        ("{{ {'a': {'b': 1}} }}", "{'a': {'b': 1}}"),
        ("{{{'a': {'b': 1}}}}", "{'a': {'b': 1}}"),
        ("{{ 'end }} here' }}", "end }} here"),
        ("{{ f'{x:03d}' }}", "003"),
        ("{{ [y * x for y in (1, 2)] }}", "[3, 6]"),
        ("{{ len('abc') }}", "3"),
        ("{{ a b }} {{x}}", "{{ a b }} 3"),
        ("{{ max(\n  x,\n  9) }}", "9"),
    ],
)
def test_an_expression_becomes_its_value(text: str, expected: str):
    assert interpolate(text, {"x": 3}) == expected


def test_an_unknown_name_offers_the_nearest_one():
    with pytest.raises(InputError) as caught:
        interpolate("About {{ revew }}", {"review": "x", "_i": ""})
    assert str(caught.value) == (
        "{{revew}}: there is no variable named revew. "
        "Did you mean review? Type --no-interpolate to send the braces as they are"
    )


def test_an_expression_that_raises_names_its_exception():
    with pytest.raises(InputError, match=r"\{\{1/0\}\} raised ZeroDivisionError: division by zero"):
        interpolate("{{1/0}}", {})


def test_a_name_missing_inside_a_called_function_is_not_called_unknown():
    def broken() -> object:
        return missing  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(InputError, match="raised NameError"):
        interpolate("{{ broken() }}", {"broken": broken})


def test_the_namespace_is_not_changed():
    namespace: dict[str, object] = {"x": 1}
    interpolate("{{ [x := 2 for _ in (1,)] }}", namespace)
    assert namespace == {"x": 1}


def test_a_data_frame_becomes_a_markdown_table_of_ten_rows():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a|b": ["p|q\nr"] * 12, "n": range(12)})
    lines = interpolate("{{ frame }}", {"frame": frame}).splitlines()
    assert lines[:3] == [r"| a\|b | n |", "| --- | --- |", r"| p\|q r | 0 |"]
    assert len(lines) == 2 + 10 + 2
    assert lines[-1] == "(2 more rows)"


def test_an_index_that_says_something_is_shown():
    pandas = pytest.importorskip("pandas")
    series = pandas.Series(["u", "v", "u"], name="letter")
    assert interpolate("{{ s.value_counts() }}", {"s": series}) == (
        "| letter | count |\n| --- | --- |\n| u | 2 |\n| v | 1 |"
    )
    assert interpolate("{{ s }}", {"s": series[series == "u"]}) == "| letter |\n| --- |\n| u |\n| u |"


def test_a_frame_of_another_library_needs_only_columns_head_and_rows():
    class DataFrame:  # the part of polars that is used
        columns = ("a",)

        def __init__(self, rows: list[tuple[int]]) -> None:
            self.rows = rows

        def __len__(self) -> int:
            return len(self.rows)

        def head(self, count: int) -> DataFrame:
            return DataFrame(self.rows[:count])

        def iter_rows(self) -> list[tuple[int]]:
            return self.rows

    assert interpolate("{{ f }}", {"f": DataFrame([(1,), (2,)])}) == "| a |\n| --- |\n| 1 |\n| 2 |"
