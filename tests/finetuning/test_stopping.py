"""Whether a job should end, asked by its worker after every step."""

from __future__ import annotations

import json
import os

import pytest

from llm_magics.finetuning import folders
from llm_magics.finetuning.jobs import Job
from llm_magics.finetuning.spec import Base, TrainingSpec
from llm_magics.finetuning.workers import stopping
from llm_magics.values.training import TrainingRequest


@pytest.fixture(autouse=True)
def _a_job(tmp_path):
    spec = TrainingSpec(TrainingRequest("job", "base"), Base("/base", 16, 512, 10**6), "cpu", 8, 0, 16, 2, "", {})
    (tmp_path / folders.SPEC).write_text(json.dumps(spec.as_dict()))


def test_what_is_said_of_the_background_later_reaches_a_job_that_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "_UNWATCHED", 0.0)
    stop, job = stopping.StopRequest(tmp_path), Job(tmp_path)
    assert "no notebook has watched it" in stop.reason()
    job.keep_background(True)
    assert stop.reason() == ""
    job.ask_to_stop()
    assert stop.reason() == "stopped"


def test_a_process_that_the_job_does_not_know_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "_NOTED", 0.0)
    stop, note = stopping.StopRequest(tmp_path), tmp_path / folders.PROCESS
    assert "names another process" in stop.reason()  # whoever started it did not live to note it
    for own in (os.getpid(), os.getppid()):  # torchrun's number stands for its processes
        note.write_text(json.dumps({"pid": own, "born": "x"}))
        assert stop.reason() == ""
    note.write_text(json.dumps({"pid": 1 << 22, "born": "x"}))  # a second trainer of the same folder
    assert "names another process" in stop.reason()
    monkeypatch.setattr(stopping, "_NOTED", 60.0)
    assert stop.reason() == ""
