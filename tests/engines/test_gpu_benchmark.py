"""The benchmark for GPUs runs where there is none, on models of two layers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"

pytestmark = pytest.mark.model


def test_the_benchmark_of_large_models_runs_its_steps_on_tiny_ones():
    pytest.importorskip("bitsandbytes", reason="the extra quantization is not installed")
    command = [sys.executable, str(SCRIPT), "--tiny", "--sizes", "7B"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert ran.returncode == 0, ran.stderr
    rows = [line.split(" | ")[:2] for line in ran.stdout.splitlines() if line.startswith("| 7B")]
    ways = ["pipeline", "engine", "generate, static cache", "pipeline, 32"]
    for kind in ("bf16", "nf4"):
        assert [way for name, way in rows if name == f"| 7B {kind}"][: len(ways)] == ways
    assert "figures of --tiny say nothing" in ran.stdout


def test_without_a_gpu_nothing_is_claimed():
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    ran = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=300)
    assert (ran.returncode, ran.stdout.split(":")[0]) == (0, "not measured")
