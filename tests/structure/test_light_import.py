"""Loading the extension costs a notebook nothing: no heavy library comes before the first cell that needs it."""

import json
import subprocess
import sys
from pathlib import Path

REPORT = "import json, sys; print('\\nLOADED', json.dumps(sorted(sys.modules)))"

HEAVY = {
    "accelerate", "bitsandbytes", "datasets", "faiss", "gguf", "huggingface_hub", "ipywidgets", "llama_cpp", "numpy",
    "pandas", "peft", "pyarrow", "pydantic", "requests", "safetensors", "scipy", "sentence_transformers", "sklearn",
    "tokenizers", "torch", "transformers", "trl", "xllamacpp",
}  # fmt: skip

# Of our own modules these may come with the extension, whole packages where the name is one. Every other is imported
# inside the function that needs it: what defines 40 values, shows cards or asks models costs milliseconds before the
# first cell.
AT_LOADING = {
    "errors", "history", "session", "settings", "values.asking", "values.messages", "values.models",
    "prompts.interpolation", "display.formatters", "display.output", "display.words", "magics",
}  # fmt: skip
WHEN_NEEDED = {"magics.autotrain_flags", "magics.panel_asking", "magics.panel_cell", "magics.reference"}


def loaded(*command: str, folder: Path) -> set[str]:
    """Run Python, and return the modules that its last statement, ``REPORT``, found loaded."""
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )
    reports = [line for line in done.stdout.splitlines() if line.startswith("LOADED ")]
    assert reports, f"it did not come to its end:\n{done.stdout}\n{done.stderr}"
    return set(json.loads(reports[-1].removeprefix("LOADED ")))


def heavy(names: set[str]) -> set[str]:
    roots = {name.partition(".")[0] for name in names}
    return {root for root in roots if root in HEAVY or root.startswith("langchain")}


def too_early(names: set[str]) -> set[str]:
    """Our own modules that loading the extension should have left alone; packages whose modules are meant are not."""
    ours = {name.partition(".")[2] for name in names if name.startswith("llm_magics.")}
    return {
        name
        for name in ours
        if not any(name == one or name.startswith(f"{one}.") or one.startswith(f"{name}.") for one in AT_LOADING)
        or name in WHEN_NEEDED
    }


def test_importing_the_package_loads_no_heavy_library(tmp_path: Path) -> None:
    names = loaded("-c", f"import llm_magics\n{REPORT}", folder=tmp_path)
    assert "llm_magics" in names
    assert heavy(names) == set()


def test_loading_the_extension_in_a_shell_loads_no_heavy_library(tmp_path: Path) -> None:
    shell = ("-m", "IPython", "--no-banner", "--colors=nocolor", f"--ipython-dir={tmp_path}", "-c")
    check = "assert get_ipython().find_cell_magic('llm'), 'the magics are not there'"
    before = loaded(*shell, REPORT, folder=tmp_path)
    after = loaded(*shell, f"%load_ext llm_magics\n{check}\n{REPORT}", folder=tmp_path)
    assert "llm_magics" in after
    assert heavy(after - before) == set()
    assert too_early(after) == set()


def test_a_heavy_library_would_be_seen(tmp_path: Path) -> None:
    assert heavy(loaded("-c", f"import requests, pandas\n{REPORT}", folder=tmp_path)) >= {"requests", "pandas", "numpy"}


def test_a_module_that_comes_too_early_would_be_seen() -> None:
    early = {"llm_magics.display", "llm_magics.display.card", "llm_magics.tuning", "llm_magics.magics.panel_cell"}
    assert too_early({*early, "llm_magics.magics.panel", "json"}) == {"display.card", "magics.panel_cell", "tuning"}
