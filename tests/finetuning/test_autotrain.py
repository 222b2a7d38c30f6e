"""AutoTrain's command line, its output, and the form of a base that its transformers reads; then AutoTrain itself."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from pathlib import Path

import pytest

from llm_magics.errors import InputError, LLMMagicsError
from llm_magics.finetuning import autotrain, folders, processes
from llm_magics.finetuning.data import understand
from llm_magics.finetuning.jobs import Job, Jobs
from llm_magics.finetuning.rows import read
from llm_magics.finetuning.spec import Base, TrainingSpec, decide
from llm_magics.values.training import TrainingRequest

REQUEST = TrainingRequest(
    "Llama-Chat",
    "tiny",
    backend="autotrain",
    epochs=1.5,
    learning_rate=2e-4,
    batch_size=4,
    lora_alpha=32,
    max_length=512,
)


def spec(device="cpu", **options):
    request = dataclasses.replace(REQUEST, **options)
    return TrainingSpec(request, Base("/base", 16, 512, 10**6), device, 8, 0, 16, 2, "", {})


def test_the_command_line_is_that_of_today():
    words = autotrain.arguments(spec(), 3400, 61, Path("/b"))
    options = dict(itertools.pairwise(words))
    assert words[:3] == ["llm", "--train", "--peft"]
    assert options["--project-name"] == "Llama-Chat" and options["--lr"] == "0.0002"
    assert options["--quantization"] == "none" and options["--epochs"] == "2" and options["--block-size"] == "64"
    assert "--merge-adapter" not in words and "--disable-gradient-checkpointing" in words
    assert "int4" in autotrain.arguments(spec("cuda", quantization="nf4"), 3400, 61, Path("/b"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"quantization": "nf4"}, "cannot train in nf4 without a GPU"),
        ({"trainer": "dpo"}, "trains with sft"),
        ({"processes": 2}, "runs one process"),
    ],
)
def test_what_it_cannot_do_is_told_before_it_starts(options, said):
    with pytest.raises(InputError, match=said):
        autotrain.check(spec(**options))


def test_its_output_becomes_steps_and_its_errors_a_line():
    output = autotrain.Output(gradient_accumulation=4, tokens=128)
    assert output.read("Generating train split: 40 examples [00:00, 1000 examples/s]") is None
    assert output.read("Map: 100%|██████████| 40/40 [00:00<00:00, 900 examples/s]") is None
    assert output.read("  7%|▋         | 1/14 [00:03<00:33,  3.0s/it]") is None
    fields = output.read(
        "INFO | x | autotrain.trainers.common:on_log:367 - {'loss': 8.0, 'learning_rate': 0.002, 'epoch': 0.42}"
    )
    assert fields == {"step": 1, "total": 14, "epoch": 0.42, "loss": 2.0, "tokens": 128, "learning_rate": 0.002}
    assert output.read("INFO | x | autotrain.trainers.common:on_log:367 - {'train_runtime': 3.0}") is None
    assert output.error == ""
    output.read("ERROR | 2026-11-25 | autotrain.trainers.common:wrapper:216 - No such file")
    assert output.error == "No such file"


def test_a_folder_of_transformers_5_is_converted_and_its_weights_are_linked(tmp_path):
    source = tmp_path / "five"
    source.mkdir()
    (source / "config.json").write_text(
        json.dumps({"rope_parameters": {"rope_theta": 1e5, "rope_type": "default"}, "dtype": "float32"})
    )
    (source / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<a>"]})
    )
    (source / "chat_template.jinja").write_text("{{ messages }}")
    (source / "model.safetensors").write_bytes(b"weights")
    made = autotrain.convert_base(Base(str(source), 1, 1, 1), tmp_path / "four")
    config, tokenizer = (json.loads((made / name).read_text()) for name in ("config.json", "tokenizer_config.json"))
    assert config == {"rope_theta": 1e5, "torch_dtype": "float32"}
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert tokenizer["chat_template"] == "{{ messages }}" and tokenizer["additional_special_tokens"] == ["<a>"]
    assert (made / "model.safetensors").stat().st_ino == (source / "model.safetensors").stat().st_ino
    assert json.loads((source / "config.json").read_text())["dtype"] == "float32"


def test_another_rotary_base_than_the_default_is_kept(tmp_path):
    scaled = {"rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0}}
    assert autotrain._converted_config(scaled) == {
        "rope_theta": 5e5,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
    }


@pytest.fixture
def jobs(tmp_path):
    made = Jobs(tmp_path / "finetuned")
    yield made
    for run in made.runs():
        group = Job(Path(run.folder)).group
        if group is not None:
            processes.end(group, patience=0.5)


@pytest.fixture(params=["trl", "autotrain"])
def backend(request):
    """Both back ends; AutoTrain's environment cannot be made without a network."""
    if request.param == "autotrain":
        from llm_magics.finetuning.environment import autotrain_environment

        try:
            autotrain_environment(print)
        except LLMMagicsError as error:
            pytest.skip(f"AutoTrain's environment cannot be made: {error}")
    return request.param


def planned(base, backend):
    rows = [{"text": f"### Human: Who is number {n}?\n### Assistant: It is {n}."} for n in range(40)]
    request = TrainingRequest(
        "job", "tiny", backend=backend, batch_size=4, epochs=1, merge_adapter=True, max_length=128
    )
    return decide(request, base, understand(read(rows, "rows")))


@pytest.mark.model
@pytest.mark.slow
def test_both_back_ends_give_the_same_kind_of_result(tiny, jobs, backend):
    made = planned(tiny, backend)
    job = jobs.start(made)
    for _ in job.follow():
        pass
    run = job.run()
    assert run.state == "done", f"{run.text}\n{(job.folder / folders.LOG).read_text()[-3000:]}"
    assert run.step == run.total == len(run.losses) == made.report.steps > 5
    assert all(0 < loss < 15 for _, loss in run.losses)
    assert not job.running
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with torch.inference_mode():
        ids = torch.tensor([[1, 9690, 198]])
        merged = AutoModelForCausalLM.from_pretrained(run.merged)(ids).logits
        base = AutoModelForCausalLM.from_pretrained(tiny.folder, dtype=torch.float32)
        tuned = PeftModel.from_pretrained(base, run.adapter).eval()(ids).logits
    assert (merged - tuned).abs().max() < 1e-3


@pytest.mark.model
@pytest.mark.slow
def test_a_merge_that_fails_leaves_a_job_that_is_done_with_its_adapter(tiny, jobs, backend, tmp_path):
    """The base is gone when it is to be merged; both back ends hold its weights open while they train."""
    base = dataclasses.replace(tiny, folder=str(shutil.copytree(tiny.folder, tmp_path / "base")))
    job = jobs.start(planned(base, backend))
    for events in job.follow(0.05):
        if any(event.kind == "begin" for event in events):
            (tmp_path / "base" / "model.safetensors").unlink()
    run = job.run()
    assert run.state == "done" and run.adapter and not run.merged, run.text
    assert run.text.startswith("the adapter is whole, but no merged model could be written: ") and "\n" not in run.text
    assert not (job.folder / f".{folders.MERGED}").exists()
