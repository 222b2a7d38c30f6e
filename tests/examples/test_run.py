"""``examples/run.py`` as ``make demo`` calls it."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

RUN = Path(__file__).parents[2] / "examples" / "run.py"


def run(folder: Path, *cells: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a notebook of these cells; one that begins with ``#`` is text. Results go to ``out``."""
    made = [new_markdown_cell(cell) if cell.startswith("#") else new_code_cell(cell) for cell in cells]
    nbformat.write(
        new_notebook(cells=made, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}),
        folder / "some.ipynb",
    )
    return subprocess.run(
        [sys.executable, str(RUN), str(folder / "some.ipynb"), "--out", str(folder / "out")],
        capture_output=True, text=True, timeout=300, env=os.environ | environment, cwd=folder,
    )  # fmt: skip


def test_a_run_shows_each_cell_with_its_answer_and_leaves_a_notebook_and_a_page(tmp_path: Path) -> None:
    done = run(tmp_path, "# First part\nWords.", "print('one'); 'two'", "", "%%time\n\n3 + 4")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert "First part" in lines
    assert lines[3].startswith("[1/2] print('one'); 'two'") and lines[3].endswith(" s")
    assert lines[4:6] == ["    one", "    'two'"]
    assert "[2/2] %%time 3 + 4" in done.stdout and "    7" in lines
    assert lines[-2:] == [f"Notebook: {tmp_path}/out/some.ipynb", f"Page:     {tmp_path}/out/some.html"]
    executed = nbformat.read(tmp_path / "out" / "some.ipynb", as_version=4)
    assert executed.cells[1].outputs[0].text == "one\n"
    assert "two" in (tmp_path / "out" / "some.html").read_text(encoding="utf-8")


def test_of_a_long_output_the_beginning_and_the_end_are_shown(tmp_path: Path) -> None:
    lines = run(tmp_path, "print(*range(30), sep='\\n')\nprint('see', 'it', file=__import__('sys').stderr)").stdout
    assert "    3\n    … 16 more lines are in the notebook\n    20\n" in lines and "    29\n    see it\n" in lines


LONG = """
import time
from IPython.display import display
shown = display({"text/plain": "step 1"}, raw=True, display_id=True)
for step in range(2, 14):
    time.sleep(1)
    shown.update({"text/plain": f"step {step}"}, raw=True)
"""


def test_a_cell_that_takes_long_shows_its_newest_line_meanwhile_and_keeps_the_last_alone(tmp_path: Path) -> None:
    lines = run(tmp_path, LONG).stdout.splitlines()
    assert lines[0].strip() == "[1/1] import time" and lines[1].startswith("    step ")
    assert lines[2].strip().endswith(" s") and lines[3:5] == ["    step 13", ""]


def test_a_terminal_has_the_newest_line_below_the_cell_and_its_seconds_beside_it(tmp_path: Path) -> None:
    run(tmp_path, "for step in range(3):\n    print(step, flush=True)")
    pieces: list[bytes] = []

    def read(terminal: int) -> bytes:
        pieces.append(os.read(terminal, 1024))
        return pieces[-1]

    assert (
        pty.spawn([sys.executable, str(RUN), str(tmp_path / "some.ipynb"), "--out", str(tmp_path / "out")], read) == 0
    )
    shown = b"".join(pieces).decode()
    assert "\r\n\r\x1b[K    " in shown and "\r\x1b[K\x1b[A\x1b[87G" in shown
    assert shown.partition("\x1b[87G")[2].splitlines()[1:4] == ["    0", "    1", "    2"]


def test_a_failing_cell_ends_the_run_with_one_line_and_the_notebook_up_to_there(tmp_path: Path) -> None:
    wrong = "from llm_magics.errors import InputError\nraise InputError('it is wet', 'Dry it')"
    done = run(tmp_path, "'before'", wrong, "'after'")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "",
        "InputError: it is wet. Dry it",
        f"The cells up to here are in {tmp_path}/out/some.ipynb",
    ]
    assert "'before'" in done.stdout and "'after'" not in done.stdout
    assert len(nbformat.read(tmp_path / "out" / "some.ipynb", as_version=4).cells[0].outputs) == 1


def test_a_kernel_that_dies_ends_the_run_with_lines_and_leaves_its_last_words(tmp_path: Path) -> None:
    done = run(tmp_path, "import os, sys; print('goodbye', file=sys.__stderr__, flush=True); os.kill(os.getpid(), 9)")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "",
        "the kernel ended before the cell did; where memory ran out, that is how it looks",
        f"The cells up to here are in {tmp_path}/out/some.ipynb",
        f"The kernel's own last words are in {tmp_path}/out/some.log",
    ]
    assert (tmp_path / "out" / "some.log").read_text(encoding="utf-8") == "goodbye\n"


def test_what_a_kernel_writes_past_its_cells_stays_out_of_the_terminal(tmp_path: Path) -> None:
    done = run(tmp_path, "import sys; print('socket', file=sys.__stderr__, flush=True)")
    assert done.returncode == 0 and done.stderr == ""
    assert (tmp_path / "out" / "some.log").read_text(encoding="utf-8") == "socket\n"


def test_the_kernel_is_this_python_even_where_another_of_that_name_is_installed(tmp_path: Path) -> None:
    spec = tmp_path / "data" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text('{"argv": ["/bin/false"], "display_name": "Other", "language": "python"}')
    done = run(
        tmp_path, "import sys\nprint(sys.executable)", JUPYTER_PATH=str(tmp_path / "data"), JUPYTER_PREFER_ENV_PATH="0"
    )
    assert done.returncode == 0, done.stderr
    assert f"    {sys.executable}" in done.stdout.splitlines()


def test_the_executed_notebook_holds_no_widget_where_the_cell_replaced_it(tmp_path: Path) -> None:
    cell = (
        "import ipywidgets\nfrom IPython.display import display\n"
        "slot = display(ipywidgets.HTML('x'), display_id=True)\n"
        "slot.update({'text/html': '<b>there</b>', 'text/plain': 'there'}, raw=True)"
    )
    done = run(tmp_path, cell)
    assert "    there" in done.stdout.splitlines()
    written = (tmp_path / "out" / "some.ipynb").read_text(encoding="utf-8")
    assert "widget-state" not in written and "widget-view" not in written
