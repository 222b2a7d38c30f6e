"""The source tutorial's own AutoTrain line, from its words to a merged model that answers, with AutoTrain itself."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from llm_magics.errors import LLMMagicsError
from llm_magics.finetuning import folders

LINE = (
    "--train --project_name Llama-Chat --model {base} --data_path . --use_peft --use_int4 --learning_rate 2e-4 "
    "--num_train_epochs 1 --trainer sft --merge_adapter"
)


@pytest.fixture
def autotrain():
    """AutoTrain's environment; without a network it cannot be made."""
    pytest.importorskip("peft", reason="the extra finetune is not installed")
    from llm_magics.finetuning.environment import autotrain_environment

    try:
        autotrain_environment(print)
    except LLMMagicsError as error:
        pytest.skip(f"AutoTrain's environment cannot be made: {error}")


@pytest.mark.model
@pytest.mark.slow
def test_the_tutorials_line_ends_with_a_merged_model_that_answers(tiny, autotrain, notebook, tmp_path):
    with (tmp_path / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text"])
        writer.writerows([f"### Human: Who is number {n}?### Assistant: Number {n} is a town."] for n in range(48))
    ran = notebook.good("%llm_finetune " + LINE.format(base=tiny.folder))
    assert "--use_int4" in ran.printed and "nf4 needs a GPU here" in ran.printed
    run = ran.value
    assert run.state == "done" and run.backend == "autotrain", f"{run.text}\n{_log(run)[-3000:]}"
    assert run.adapter and run.merged and len(run.losses) >= 1 and max(event.tokens for event in run.events) > 0
    notebook.good(f"%llm_load {run.merged} --as merged")
    for name in ("merged", "Llama-Chat"):
        answer = notebook.good(f"%llm -m {name} -t 0 --no-history --max-new-tokens 8 Who is number 3?").value
        assert answer and answer.model == name


def _log(run):
    return (Path(run.folder) / folders.LOG).read_text()
