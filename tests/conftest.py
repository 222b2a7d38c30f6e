"""A fresh IPython shell with the magics loaded, and what its cells print, show and raise."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from llm_magics import LLMMagicsError, ScriptedEngine, Session, get_session


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests come last: playwright's event loop runs from the first of them to the end of the session, and
    beside it no asynchronous test can have one of its own."""
    browser = Path(__file__).parent / "browser"
    items.sort(key=lambda item: item.path.is_relative_to(browser))


@dataclasses.dataclass(frozen=True)
class Ran:
    """What came of one cell."""

    value: Any
    error: BaseException | None
    printed: str

    @property
    def complaint(self) -> str:
        """The one line of a person's mistake, after a look that it is one and the last thing printed."""
        assert isinstance(self.error, LLMMagicsError), f"raised {self.error!r}, printed {self.printed}"
        (line,) = self.error._render_traceback_()
        assert "\n" not in line
        assert line.startswith(f"{type(self.error).__name__}: ")
        assert "Traceback" not in self.printed and "---" not in self.printed
        assert self.printed.strip().splitlines()[-1] == line
        assert self.error.hint, "it does not say what to type next"
        return line


class Notebook:
    """A real shell, one cell at a time."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell: Any = shell

    @property
    def session(self) -> Session:
        return get_session()

    @property
    def names(self) -> dict[str, Any]:
        """The user's variables."""
        return self.shell.user_ns

    def answers(self, *answers: str, name: str = "fake", **options: Any) -> ScriptedEngine:
        """Load a model that gives these answers."""
        engine = ScriptedEngine(answers, **options)
        self.session.add(name, engine)
        return engine

    def run(self, cell: str, *, cell_id: str = "") -> Ran:
        """Run a cell. With a ``cell_id`` it is that cell of a notebook, and running it again is a second run."""
        self.shell.get_parent = lambda: {"metadata": {"cellId": cell_id}} if cell_id else {}
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            result = self.shell.run_cell(cell, store_history=True)
        return Ran(result.result, result.error_before_exec or result.error_in_exec, printed.getvalue())

    def good(self, cell: str, *, cell_id: str = "") -> Ran:
        """Run a cell that must succeed."""
        ran = self.run(cell, cell_id=cell_id)
        assert ran.error is None, ran.printed
        return ran

    def rich(self) -> list[dict[str, Any]]:
        """From now on show cards, as with a kernel; returns the list that they are published to."""
        self.shell.kernel = SimpleNamespace()
        self.shell.display_pub = CapturingDisplayPublisher()
        return self.shell.display_pub.outputs


OpenNotebook = Callable[..., Notebook]


@pytest.fixture
def open_notebook(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OpenNotebook]:
    """Open a shell in an empty folder; keyword arguments are sections of IPython's configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
    for name in [name for name in os.environ if name.startswith("LLM_MAGICS_") and name != "LLM_MAGICS_CACHE"]:
        monkeypatch.delenv(name)

    def opened(*, load: bool = True, **sections: dict[str, Any]) -> Notebook:
        InteractiveShell.clear_instance()
        config = Config({"HistoryManager": {"enabled": False}, **sections})
        config.InteractiveShell.colors = "nocolor"
        notebook = Notebook(InteractiveShell.instance(config=config))
        if load:
            notebook.good("%load_ext llm_magics")
        return notebook

    yield opened
    if InteractiveShell.initialized():
        shell = InteractiveShell.instance()
        if "llm_magics" in shell.extension_manager.loaded:
            get_session()._models.clear()  # closing measures the memory that comes back, and that takes a second
            shell.extension_manager.unload_extension("llm_magics")
        atexit.unregister(shell.atexit_operations)  # each takes half a second of collecting garbage at the end
        InteractiveShell.clear_instance()


@pytest.fixture
def notebook(open_notebook: OpenNotebook) -> Notebook:
    """A notebook with the magics and no model."""
    return open_notebook()


@pytest.fixture
def fake(notebook: Notebook) -> ScriptedEngine:
    """The notebook's model, which answers ``hello there``."""
    return notebook.answers("hello there")


@pytest.fixture(scope="session")
def smollm2_engine() -> Any:
    """The real SmolLM2, opened once for all tests; a closing notebook leaves it open."""
    from llm_magics import ModelRequest
    from llm_magics.engines.resolve import resolve
    from llm_magics.engines.transformers import open_model

    engine = open_model(resolve("smollm2"), ModelRequest("smollm2"))
    engine.close = lambda: None  # type: ignore[method-assign]
    return engine


@pytest.fixture
def smollm2(notebook: Notebook, smollm2_engine: Any) -> Notebook:
    """A notebook with the real SmolLM2 loaded."""
    notebook.session.add("smollm2", smollm2_engine)
    return notebook


@pytest.fixture(scope="session")
def base() -> Any:
    """The real SmolLM2 as a folder that is trained on."""
    pytest.importorskip("transformers", reason="the extra transformers is not installed")
    from llm_magics import ModelRequest
    from llm_magics.engines.resolve import resolve
    from llm_magics.engines.transformers import prepare
    from llm_magics.finetuning.spec import read_base

    return read_base(prepare(resolve("smollm2"), ModelRequest("smollm2")).folder)


@pytest.fixture(scope="session")
def tiny(base: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model of two narrow layers with SmolLM2's tokenizer: it learns nothing, at 30 steps a second."""
    for package in ("trl", "peft", "datasets"):
        pytest.importorskip(package, reason="the extra finetune is not installed")
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from llm_magics.finetuning.spec import read_base

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return read_base(str(folder))
