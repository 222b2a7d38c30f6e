"""Run a notebook and print it as it goes: ``python examples/run.py examples/tutorial.ipynb``.

Each cell is one line that appears when the cell starts and gets its seconds when it ends; what the
cell answered follows, indented. Below a cell that takes long stands the newest line of what it says:
in a terminal always, elsewhere every ten seconds. The executed notebook and a page made of it are written to
``build/``. A cell that fails ends the run with its one-line error and exit code 1.
"""

import argparse
import re
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter
from nbformat import NotebookNode

WIDTH = 100
MOST_LINES = 14  # of an output; of a longer one the beginning and, as results stand there, more of the end
FIRST_LINES = 4
SECONDS_A_LINE = 10.0  # where what is printed cannot be taken back


class ThisPython(KernelSpecManager):
    """Every kernel is this Python's own, whatever kernels are installed on the machine."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(**get_kernel_dict())


class ThisPythonManager(AsyncKernelManager):
    """Starts the kernel of the environment that runs this file."""

    def _kernel_spec_manager_default(self) -> KernelSpecManager:
        return ThisPython()


class Progress:
    """Prints a notebook while it runs.

    Args:
        notebook: the notebook; its code cells that hold something are counted.
    """

    def __init__(self, notebook: NotebookNode) -> None:
        runs = [index for index, cell in enumerate(notebook.cells) if is_code(cell)]
        self.place = {index: number for number, index in enumerate(runs, start=1)}
        self.started = self.said = 0.0
        self.below = False  # whether something stands below the running cell's line
        self.terminal = sys.stdout.isatty()

    def start(self, cell: NotebookNode, cell_index: int) -> None:
        """A heading of the text, or the line of a cell without its seconds yet."""
        if cell_index in self.place:
            self.started = self.said = time.perf_counter()
            self.below = False
            print(f"{self.counter(cell_index)} {title(cell.source):<{WIDTH - 20}}", end="", flush=True)
        elif cell.cell_type == "markdown" and cell.source.startswith("#"):
            print(f"\n{first_line(cell.source).lstrip('# ')}\n", flush=True)

    def says(self, text: str) -> None:
        """The newest line of the cell that runs."""
        line = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
        now = time.perf_counter()
        if not line or (not self.terminal and now - self.said < SECONDS_A_LINE):
            return
        line = f"    {line[: WIDTH - 4]}"
        begin = "" if self.below else "\n"
        print(f"{begin}\r\x1b[K{line}" if self.terminal else f"{begin}{line}\n", end="", flush=True)
        self.said, self.below = now, True

    def counter(self, cell_index: int) -> str:
        """Such as ``[ 3/29]``."""
        return f"[{self.place[cell_index]:>{len(str(len(self.place)))}}/{len(self.place)}]"

    def executed(self, cell: NotebookNode, cell_index: int, execute_reply: dict[str, Any]) -> None:
        """The seconds of the cell, and what it showed."""
        seconds = f" {time.perf_counter() - self.started:6.1f} s"
        place = len(self.counter(cell_index)) + 1 + WIDTH - 20
        if self.below and self.terminal:
            print(f"\r\x1b[K\x1b[A\x1b[{place + 1}G{seconds}", flush=True)
        else:
            print(f"{'':{place if self.below else 0}}{seconds}", flush=True)
        for line in shown(cell):
            print(f"    {line}", flush=True)


class Client(NotebookClient):
    """Runs a notebook, and tells what its cells say as they say it."""

    def __init__(self, notebook: NotebookNode, progress: Progress, **options: Any) -> None:
        super().__init__(notebook, on_cell_start=progress.start, on_cell_executed=progress.executed, **options)
        self._progress = progress

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        """Keep a message of the kernel in the notebook; see ``NotebookClient``."""
        content = msg["content"]
        if msg["msg_type"] == "stream":
            self._progress.says(content["text"])
        elif msg["msg_type"] in ("display_data", "update_display_data"):
            self._progress.says(str(content["data"].get("text/plain", "")))
        return super().process_message(msg, cell, cell_index)


def is_code(cell: NotebookNode) -> bool:
    """Whether the cell is one that runs."""
    return cell.cell_type == "code" and bool(cell.source.strip())


def first_line(source: str) -> str:
    """The first line that holds something."""
    return next((line.strip() for line in source.splitlines() if line.strip()), "")


def title(source: str) -> str:
    """A cell in one line: its first, and for a cell magic what it is given as well."""
    line = source if source.lstrip().startswith("%%") else first_line(source)
    return textwrap.shorten(line, WIDTH - 20, placeholder=" …")


def shown(cell: NotebookNode) -> Iterator[str]:
    """What a cell's outputs say in plain text, wrapped, and cut in the middle where one gets long."""
    for output in cell.outputs:
        lines = [
            wrapped
            for line in plain(output).strip().splitlines()
            for wrapped in textwrap.wrap(line, WIDTH - 4, break_on_hyphens=False) or [""]
        ]
        left_out = len(lines) - MOST_LINES
        if left_out > 0:
            lines[FIRST_LINES : FIRST_LINES + left_out] = [f"… {left_out} more lines are in the notebook"]
        yield from lines


def plain(output: NotebookNode) -> str:
    """One output as plain text. Errors are left to the end of the run; widgets have no text to show."""
    if output.output_type == "stream":
        return str(output.text)
    data = output.get("data", {})
    if "application/vnd.jupyter.widget-view+json" in data and "text/html" not in data:
        return ""
    return str(data.get("text/plain", ""))


def execute(path: Path, out_dir: Path) -> Path:
    """Run a notebook in a fresh kernel of this Python, and print it as it goes.

    Args:
        path: the notebook. Its cells run in its own folder.
        out_dir: where the executed notebook goes, under the same name, and what the kernel itself wrote
            beside it (``.log``). Both are written after a failing cell as well.

    Returns:
        The executed notebook's path.

    Raises:
        CellExecutionError: a cell failed.
        DeadKernelError: the kernel ended, as it does where memory runs out.
    """
    notebook = nbformat.read(path, as_version=4)
    client = Client(
        notebook,
        Progress(notebook),
        kernel_manager_class=ThisPythonManager,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.resolve().parent)}},
        startup_timeout=120,
        extra_arguments=["--IPKernelApp.log_level=40"],
        store_widget_state=False,
    )
    executed = out_dir / path.name
    out_dir.mkdir(parents=True, exist_ok=True)
    try:
        # Not in the terminal: a kernel that is ended can still write a traceback about its sockets.
        with executed.with_suffix(".log").open("w", encoding="utf-8") as log:
            client.execute(stderr=log)
    finally:
        nbformat.write(notebook, executed)
    return executed


def to_html(notebook: Path) -> Path:
    """Write the notebook as a page beside it, and return that page's path."""
    page, _ = HTMLExporter().from_filename(str(notebook))
    target = notebook.with_suffix(".html")
    target.write_text(page, encoding="utf-8")
    return target


def one_line(error: CellExecutionError | DeadKernelError) -> str:
    """What went wrong, in one line without colours."""
    if isinstance(error, DeadKernelError):
        return "the kernel ended before the cell did; where memory ran out, that is how it looks"
    text = re.sub(r"\x1b\[[0-9;]*m", "", f"{error.ename}: {error.evalue}")
    return first_line(text)


def main() -> int:
    """Run the notebook that the command line names; 1 where a cell failed."""
    parser = argparse.ArgumentParser(description="Run a notebook and print it as it goes.")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build"), help="folder for the results (default: build)")
    arguments = parser.parse_args()
    if not arguments.notebook.is_file():
        print(f"there is no notebook {arguments.notebook}", file=sys.stderr)
        return 1
    try:
        executed = execute(arguments.notebook, arguments.out)
    except (CellExecutionError, DeadKernelError) as error:
        executed = arguments.out / arguments.notebook.name
        print(f"\n{one_line(error)}", file=sys.stderr)
        print(f"The cells up to here are in {executed}", file=sys.stderr)
        if isinstance(error, DeadKernelError):
            print(f"The kernel's own last words are in {executed.with_suffix('.log')}", file=sys.stderr)
        return 1
    print(f"\nNotebook: {executed}\nPage:     {to_html(executed)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
