"""Whether a job should end, asked by its worker after every step."""

from __future__ import annotations

import json

from llm_magics.finetuning import folders
from llm_magics.finetuning.jobs import Job
from llm_magics.finetuning.spec import Base, TrainingSpec
from llm_magics.finetuning.workers import stopping
from llm_magics.values.training import TrainingRequest


def test_what_is_said_of_the_background_later_reaches_a_job_that_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "_UNWATCHED", 0.0)
    spec = TrainingSpec(TrainingRequest("job", "base"), Base("/base", 16, 512, 10**6), "cpu", 8, 0, 16, 2, "", {})
    (tmp_path / folders.SPEC).write_text(json.dumps(spec.as_dict()))
    stop, job = stopping.StopRequest(tmp_path), Job(tmp_path)
    assert "no notebook has watched it" in stop.reason()
    job.keep_background(True)
    assert stop.reason() == ""
    job.ask_to_stop()
    assert stop.reason() == "stopped"
