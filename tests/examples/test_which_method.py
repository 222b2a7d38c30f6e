"""The notebook that compares the ways, executed with the real model on two rows of each set."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from llm_magics.cache_folders import cache_folder

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "which_method.ipynb"


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The executed code cells. Models come from this machine's cache, answers and tuned models from nowhere."""
    out = tmp_path_factory.mktemp("which_method")
    for part in ("examples", "benchmarks/data"):
        shutil.copytree(ROOT / part, out / part, ignore=shutil.ignore_patterns("finetuned"))
    (out / "cache").mkdir()
    for folder in cache_folder("").glob("*"):
        if folder.name != "answers":
            (out / "cache" / folder.name).symlink_to(folder)
    sample = {"DEMO_ROWS": "2", "DEMO_TRAINED_ON": "6", "LLM_MAGICS_CACHE": str(out / "cache")}
    done = subprocess.run(
        [sys.executable, "examples/run.py", f"examples/{NOTEBOOK.name}", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=900,
        cwd=out,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "passive"} | sample,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    notebook = nbformat.read(out / NOTEBOOK.name, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: Any) -> str:
    return "\n".join(
        str(output.data["text/plain"]) if "data" in output else output.get("text", "") for output in cell.outputs
    )


@pytest.mark.model
@pytest.mark.slow
def test_every_comparison_is_saved_as_html_and_text_and_asks_as_many_rows_as_it_should(cells: list[Any]) -> None:
    evaluations = [cell for cell in cells if re.search("^%llm_eval|^%%llm_compare", cell.source, re.MULTILINE)]
    assert len(evaluations) == 7
    for cell in evaluations:
        (data,) = [output.data for output in cell.outputs if "data" in output]
        assert set(data) == {"text/html", "text/plain"}
        if "%llm_eval" in cell.source:
            assert "2 rows asked" in data["text/plain"] and "<svg" in data["text/html"]


@pytest.mark.model
@pytest.mark.slow
def test_what_it_says_in_the_end_is_what_the_cards_said(cells: list[Any]) -> None:
    said = shown(cells[-1])
    last = {cell.source.partition("-o ")[2].split()[0]: cell for cell in cells if "%llm_eval" in cell.source}
    assert list(last) == ["intent", "sentiment", "reasoning", "git", "company"]
    for cell in last.values():
        conclusions = shown(cell).split("\n\n")[1].splitlines()[:2]
        assert conclusions and all(sentence in said for sentence in conclusions)


def test_its_text_claims_nothing_that_is_not_computed() -> None:
    texts = [cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "markdown"]
    claim = re.compile(r"\b\d+(\.\d+)? ?(points|times|%(?! intervals))|\b(beats|better than|worse than)\b")
    assert [text for text in texts if claim.search(text)] == []
