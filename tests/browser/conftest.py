"""JupyterLab and Chromium for the tests that need to see what a person sees."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REPOSITORY = Path(__file__).parents[2]
TOKEN = uuid.uuid4().hex
sys.path.append(str(REPOSITORY / "tests" / "display"))  # for the samples


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab server with a home of its own, so that nobody's settings or trust get in."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    home = tmp_path_factory.mktemp("lab")
    server = Lab(home)
    try:
        server.wait()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium of the system, driven by playwright: nothing is downloaded."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("chromium")),
            executable_path=CHROMIUM,
            headless=True,
            args=["--no-sandbox", "--disable-dev-shm-usage"],
            viewport={"width": 1000, "height": 1200},
        )
        yield context
        context.close()


@pytest.fixture
def notebook(lab: Lab, browser: Any) -> Iterator[Callable[..., Notebook]]:
    """Opens a notebook made of the given cells; its kernel and page end with the test."""
    opened: list[Notebook] = []

    def open_notebook(*cells: str) -> Notebook:
        opened.append(Notebook(lab, browser, lab.write(cells)))
        return opened[-1]

    yield open_notebook
    for book in opened:
        book.close()


class Lab:
    """A running server.

    Args:
        home: an empty folder for its settings and notebooks.
    """

    def __init__(self, home: Path) -> None:
        self.root = home / "notebooks"
        settings = home / "config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
        self.root.mkdir()
        settings.mkdir(parents=True)
        # The question about news covers the corner of the page.
        news = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
        (settings / "notification.jupyterlab-settings").write_text(json.dumps(news))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        names = ("CONFIG", "DATA", "RUNTIME", "WORKSPACES")
        folders = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in names}
        folders["JUPYTERLAB_SETTINGS_DIR"] = str(settings.parents[1])
        folders["IPYTHONDIR"] = str(home / "ipython")
        path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests" / "display")])
        self._log = (home / "lab.log").open("w")
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
                *("--LabApp.expose_app_in_browser=True", "--LabApp.news_url="),
                *(f"--ServerApp.port={self.url.rpartition(':')[2]}", "--ServerApp.port_retries=0"),
                *(f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={self.root}"),
            ],
            env=os.environ | folders | {"HOME": str(home), "PYTHONPATH": path},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def wait(self) -> None:
        """Until the server answers."""
        for _ in range(300):
            try:
                self.request("GET", "/api/status")
                return
            except OSError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.2)
        raise RuntimeError("JupyterLab did not start:\n" + Path(self._log.name).read_text())

    def request(self, method: str, path: str) -> Any:
        """One call of the server's API."""
        request = urllib.request.Request(self.url + path, method=method, headers={"Authorization": f"token {TOKEN}"})
        with urllib.request.urlopen(request, timeout=10) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def write(self, cells: tuple[str, ...]) -> str:
        """Write a notebook and give its name."""
        import nbformat

        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
        name = f"{uuid.uuid4().hex[:8]}.ipynb"
        nbformat.write(book, self.root / name)
        return name

    def close(self) -> None:
        """End the kernels, then the server."""
        try:
            for kernel in self.request("GET", "/api/kernels"):
                self.request("DELETE", f"/api/kernels/{kernel['id']}")
        except OSError:
            pass
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


class Notebook:
    """One open notebook. It waits for conditions and never for a number of seconds.

    Args:
        lab: the server.
        browser: the browser's context.
        name: the notebook's file name.
    """

    def __init__(self, lab: Lab, browser: Any, name: str) -> None:
        self.lab = lab
        self.name = name
        self.alerts: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page()
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(f"{lab.url}/doc/tree/{name}?token={TOKEN}&reset")
        self.wait_for_kernel()

    def wait_for_kernel(self) -> None:
        """Until the kernel is idle and connected."""
        self.page.wait_for_function(
            """() => { const k = window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel;
                return k && k.status === 'idle' && k.connectionStatus === 'connected'
                    && document.querySelectorAll('.jp-CodeCell').length > 0; }""",
            timeout=60_000,
        )

    def command(self, name: str, arguments: dict[str, Any] | None = None, *, wait: bool = True) -> None:
        """Run one of JupyterLab's commands, as a menu or a key would."""
        begin = "" if wait else "void "
        self.page.evaluate(
            f"([name, args]) => {{ const p = window.jupyterapp.commands.execute(name, args); {begin}p;"
            f" {'return p.then(() => null)' if wait else 'return null'}; }}",
            [name, arguments or {}],
        )

    def run_all(self, *, wait: bool = True) -> None:
        """Run All; with ``wait`` until every cell that is going to run has run."""
        self.command("notebook:run-all-cells", wait=False)
        if wait:
            self.wait_until_done()

    def wait_until_done(self, timeout: float = 60.0) -> None:
        """Until the kernel is idle and no cell is waiting for it."""
        self.page.wait_for_function(
            """() => { const w = window.jupyterapp.shell.currentWidget;
                const cells = w.content.widgets.filter(c => c.model.type === 'code');
                return w.sessionContext.session.kernel.status === 'idle'
                    && cells.some(c => c.model.executionCount !== null)
                    && cells.every(c => c.model.executionState !== 'running'); }""",
            timeout=timeout * 1000,
        )

    def output(self, cell: int) -> Any:
        """The output area of a cell."""
        return self.page.locator(".jp-CodeCell").nth(cell).locator(".jp-OutputArea").first

    def counts(self) -> list[int | None]:
        """The execution count of each cell; None where it did not run."""
        counts: list[int | None] = self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.content.widgets.map(c => c.model.executionCount)"
        )
        return counts

    def saved(self) -> Any:
        """Save, and read the file."""
        import nbformat

        self.command("docmanager:save")
        return nbformat.read(self.lab.root / self.name, as_version=4)

    def theme(self, name: str) -> None:
        """Change the theme, for example to ``JupyterLab Dark``."""
        self.command("apputils:change-theme", {"theme": name})
        light = "true" if "Light" in name else "false"
        self.page.wait_for_function(f"() => document.body.dataset.jpThemeLight === '{light}'")
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")  # it lies over the page for a moment

    def shoot(self, name: str, cell: int | None = None) -> None:
        """A picture in both themes, in the folder that LLM_MAGICS_SHOTS names; none where it names none.

        Args:
            name: the beginning of the file's name.
            cell: whose output is taken; None takes the page.
        """
        if folder := os.environ.get("LLM_MAGICS_SHOTS"):
            for theme in ("Dark", "Light"):
                self.theme(f"JupyterLab {theme}")
                shown = self.page if cell is None else self.output(cell)
                shown.screenshot(path=f"{folder}/{name}-{theme.lower()}.png")

    def close(self) -> None:
        """Close the page and end the kernel."""
        self.page.close()
        for session in self.lab.request("GET", "/api/sessions"):
            if session["path"] == self.name:
                self.lab.request("DELETE", f"/api/sessions/{session['id']}")

    def _dialog(self, dialog: Any) -> None:
        if dialog.type == "alert":
            self.alerts.append(dialog.message)
        dialog.accept()
