"""A real kernel without a front end, and a real terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PATH = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
SET_UP = """from fakes import a_stream
from llm_magics.display.answer import show_answer
from llm_magics.display.formatters import register
ip = get_ipython()
register(ip)
def ask(*args, **kwargs): return show_answer(a_stream(*args, **kwargs), shell=ip)"""


def execute(*cells: str, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", PATH)
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (SET_UP, *cells)])
    return nbclient.NotebookClient(book, timeout=60, kernel_name="python3", **options).execute()


def test_a_notebook_run_without_a_front_end_saves_plain_html(monkeypatch: pytest.MonkeyPatch) -> None:
    book = execute(
        "ask('**hi** there', reasoning='so', per_second=20)", "y = ask('hi')\ny", "y", monkeypatch=monkeypatch
    )
    live, both, later = (cell.outputs for cell in book.cells[1:])
    assert [output.output_type for output in live] == ["display_data"]
    assert set(live[0].data) == {"text/html", "text/plain"}
    assert live[0].data["text/plain"] == "**hi** there"
    assert "<strong>hi</strong>" in live[0].data["text/html"]
    assert len(both) == 1
    assert later[0].output_type == "execute_result" and "llm-card" in later[0].data["text/html"]
    assert "(running…)" not in str(book) and "widget-view" not in str(book)


def test_a_failing_cell_stops_the_run_and_leaves_the_partial_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    book = execute("ask('some text', error=ValueError('boom'))", monkeypatch=monkeypatch, allow_errors=True)
    shown, error = book.cells[1].outputs
    assert shown.data["text/plain"] == "some text" and error.ename == "ValueError"


@pytest.fixture
def ipython(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """IPython in a terminal."""
    pexpect = pytest.importorskip("pexpect")
    environment = os.environ | {"PYTHONPATH": PATH, "IPYTHONDIR": str(tmp_path), "TERM": "xterm", "NO_COLOR": ""}
    del environment["NO_COLOR"]
    command = ["-m", "IPython", "--no-banner", "--colors=nocolor", "--simple-prompt", "-i", "-c", SET_UP]
    child = pexpect.spawn(sys.executable, command, env=environment, encoding="utf-8", timeout=30, dimensions=(50, 200))
    child.expect_exact("In [1]: ")
    yield child
    child.close(force=True)


def test_a_terminal_prints_the_answer_as_it_comes_and_once(ipython: Any) -> None:
    ipython.sendline("ask('alpha beta', reasoning='thinking', per_second=20)")
    ipython.expect_exact("\x1b[2mthinking\x1b[0m\r\n\r\nalpha beta\r\n\r\n12 prompt + 3 new tokens")
    ipython.expect_exact("In [2]: ")
    assert "alpha" not in ipython.before and "Out[1]" not in ipython.before
    ipython.sendline("_")
    ipython.expect_exact("Out[2]: alpha beta")
    ipython.sendline("Out[1]")
    ipython.expect_exact("Out[3]: alpha beta")


def test_ctrl_c_in_a_terminal_keeps_the_partial_answer(ipython: Any) -> None:
    ipython.sendline("ask('word ' * 999, per_second=50)")
    ipython.expect_exact("word word word")
    ipython.sendintr()
    ipython.expect_exact("stopped · 12 prompt + ")
    ipython.expect(r"KeyboardInterrupt: stopped after \d+ tokens; the partial answer is in _\r\n")
    ipython.expect_exact("In [2]: ")
    ipython.sendline("1 + 1")
    ipython.expect_exact("Out[2]: 2")
