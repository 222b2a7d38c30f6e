"""The fine-tuning notebook, run with the real SmolLM2 as ``make demo-full`` runs it: real jobs, real answers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

pytestmark = [pytest.mark.model, pytest.mark.slow]
EXAMPLES = Path(__file__).parents[2] / "examples"
PROCESSOR_TIME = Path(__file__).with_name("processor_time.py")
CPU_MINUTES = 3  # with AVX-512: 103 s alone in bfloat16, 158 s without; the tests run two at a time
CPU_MINUTES_OF_OLDER_PROCESSORS = 9  # 392 s on an EPYC with AVX2, three processes on its two cores


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The executed notebook, and the CPU seconds that it took with everything it started."""
    pytest.importorskip("trl", reason="the extra finetune is not installed")
    folder = tmp_path_factory.mktemp("examples")
    for name in ("finetune.ipynb", "brindlemoor.csv", "brindlemoor_test.csv", "run.py"):
        shutil.copy(EXAMPLES / name, folder)
    done = subprocess.run(
        [sys.executable, str(PROCESSOR_TIME), "seconds", sys.executable, "run.py", "finetune.ipynb"],
        cwd=folder, capture_output=True, text=True, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    seconds = float((folder / "seconds").read_text())
    return nbformat.read(folder / "build" / "finetune.ipynb", as_version=4), seconds, done.stdout


def test_the_facts_are_unknown_before_and_known_after(ran):
    found = re.search(r"(\d+) of 24 right before, (\d+) after", ran[2])
    assert int(found[1]) <= 2 and int(found[2]) >= 20, found[0]


def test_the_base_answers_as_before(ran):
    assert "the base answers as before: True" in ran[2]


def test_who_runs_it_sees_every_few_seconds_how_far_it_is_and_the_notebook_keeps_the_end(ran):
    assert sum("step" in line and "left" in line for line in ran[2].splitlines()) >= 3
    (cell,) = [cell for cell in ran[0].cells if cell.source.startswith("%llm_finetune")]
    texts = [str(part.get("text", part.get("data", {}).get("text/plain", ""))) for part in cell.outputs]
    assert sum("48 of 48" in text for text in texts) == 1
    assert not any(re.search(r"\d (s|min|h) left", text) for text in texts)


def test_it_takes_minutes_of_a_laptops_time(ran):
    torch = pytest.importorskip("torch")
    minutes = CPU_MINUTES if torch.cpu.get_capabilities().get("avx512_f") else CPU_MINUTES_OF_OLDER_PROCESSORS
    assert ran[1] <= 60 * minutes, f"{ran[1]:.0f} CPU seconds"
