"""A real kernel: Run All stops at a mistake, and the notebook shows it in one line."""

from __future__ import annotations

from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

SET_UP = """%load_ext llm_magics
from llm_magics import ScriptedEngine, get_session
class Broken(ScriptedEngine):
    def stream(self, *arguments):
        raise ZeroDivisionError("a bug")
        yield
get_session().add("broken", Broken(["x"]))
get_session().add("fake", ScriptedEngine(["hello there"]));"""

MISTAKES = [
    "%%llm --temp 3\nhi",
    "%%llm",
    "%llm {{nowhere}}",
    "%llm_load smolm2",
    "%llm -m fkae hi",
    "%%llm -f json\nhi",
]


def book(*cells: str) -> Any:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (SET_UP, *cells)])


def run(notebook: Any, **options: Any) -> None:
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3", **options).execute()


def test_a_run_stops_at_the_mistake_and_shows_one_line() -> None:
    notebook = book("%llm hi", "%%llm --temp 3\nhi", "ran = True")
    with pytest.raises(nbclient.exceptions.CellExecutionError) as caught:
        run(notebook)
    line = "InputError: %%llm has no option --temp. Did you mean --temperature?"
    assert caught.value.traceback.strip().endswith(f"\n{line}") and "Traceback" not in str(caught.value)
    _, good, bad, after = notebook.cells
    assert [output.output_type for output in good.outputs] == ["display_data"]
    assert good.outputs[0].data["text/plain"] == "hello there"
    (output,) = bad.outputs
    assert output.output_type == "error" and output.traceback == [line]
    assert after.execution_count is None and after.outputs == []


def test_every_kind_of_mistake_is_one_line_and_a_bug_keeps_its_traceback() -> None:
    notebook = book(*MISTAKES, "%llm -m broken hi", "%llm still there?", "%llm hi;")
    run(notebook, allow_errors=True)
    *mistakes, bug, good, silent = notebook.cells[1:]
    for cell in mistakes:
        error = cell.outputs[-1]
        assert error.output_type == "error", cell.source
        assert len(error.traceback) == 1 and error.traceback[0] == f"{error.ename}: {error.evalue}", cell.source
        assert "\n" not in error.traceback[0] and "Traceback" not in str(cell.outputs), cell.source
    assert "hello there" in str(mistakes[-1].outputs[0]), "the raw text of an answer that is not JSON is lost"
    (error,) = [output for output in bug.outputs if output.output_type == "error"]
    assert error.ename == "ZeroDivisionError" and "Traceback" in "\n".join(error.traceback)
    assert [output.output_type for output in good.outputs] == ["display_data"]
    assert silent.outputs == []
