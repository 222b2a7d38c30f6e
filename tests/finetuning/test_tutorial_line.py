"""The source tutorial's own AutoTrain line, from its words to a merged model that answers, with AutoTrain itself."""

from __future__ import annotations

import csv
import itertools
import threading

import pytest

from llm_magics.errors import LLMMagicsError
from llm_magics.finetuning import folders, processes
from llm_magics.magics.autotrain_flags import translate
from llm_magics.tuning import jobs, plan
from llm_magics.values.asking import GenerationOptions
from llm_magics.values.messages import Message
from llm_magics.values.models import ModelRequest
from llm_magics.values.training import RowSource, TrainingRequest

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
def test_the_tutorials_line_ends_with_a_merged_model_that_answers(tiny, autotrain, tmp_path, monkeypatch):
    from llm_magics.engines.resolve import resolve
    from llm_magics.engines.transformers import open_model

    monkeypatch.chdir(tmp_path)
    with (tmp_path / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text"])
        writer.writerows([f"### Human: Who is number {n}?### Assistant: Number {n} is a town."] for n in range(48))
    words = translate(LINE.format(base=tiny.folder).split()).words
    switches = ("--merge-adapter",)
    given = dict(itertools.pairwise(word for word in words if word not in (*switches, ".")))
    request = TrainingRequest(
        given["--name"],
        given["--base"],
        backend=given["--backend"],
        quantization=given["--quantization"],
        learning_rate=float(given["--lr"]),
        epochs=float(given["--epochs"]),
        trainer=given["--trainer"],
        merge_adapter="--merge-adapter" in words,
    )
    said: list[str] = []
    decided = plan(request, RowSource(next(word for word in words if word == ".")), adapt=True, say=said.append)
    assert decided.spec.request.quantization == "none" and "nf4 needs a GPU" in said[0]
    job = jobs().start(decided)
    try:
        for _ in job.follow():
            pass
    finally:
        processes.end(job.group, patience=1)
    run = job.run()
    assert run.state == "done", f"{run.text}\n{(job.folder / folders.LOG).read_text()[-3000:]}"
    assert run.adapter and run.merged and len(run.losses) >= 1
    engine = open_model(resolve(run.merged), ModelRequest(run.merged))
    prompt = engine.render([Message("user", "Who is number 3?")])
    options = GenerationOptions(temperature=0, max_new_tokens=8)
    assert "".join(chunk.text for chunk in engine.stream(prompt, options, threading.Event()))
