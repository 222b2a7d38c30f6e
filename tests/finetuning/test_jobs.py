"""Jobs over their whole life, with real processes: trained, watched, stopped, killed, resumed, found again."""

from __future__ import annotations

import dataclasses
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llm_magics.errors import LLMMagicsError, TrainingError
from llm_magics.finetuning import folders, processes
from llm_magics.finetuning.data import Row, understand
from llm_magics.finetuning.events import EventLog, EventReader
from llm_magics.finetuning.jobs import Job, Jobs, _longest_step
from llm_magics.finetuning.rows import read
from llm_magics.finetuning.spec import decide
from llm_magics.values.messages import Message
from llm_magics.values.training import TrainingEvent, TrainingRequest

pytestmark = [pytest.mark.model, pytest.mark.slow]

ROWS = [{"prompt": f"Who is number {n}?", "completion": f"It is {'very ' * (n % 7)}{n}."} for n in range(60)]
PAIRS = [{"prompt": f"Who is {n}?", "chosen": f"Number {n}.", "rejected": "Nobody."} for n in range(12)]


@pytest.fixture
def jobs(tmp_path):
    made = Jobs(tmp_path / "finetuned")
    yield made
    for run in made.runs():
        group = Job(Path(run.folder)).group
        if group is not None:
            processes.end(group, patience=0.5)


@pytest.fixture
def decided(tiny):
    """Decide a job on the tiny base."""

    def made(rows=ROWS, **options):
        request = TrainingRequest(**{"name": "job", "base": "tiny", "batch_size": 4, "epochs": 4, **options})
        return decide(request, tiny, understand(read(list(rows), "rows"), trainer=request.trainer))

    return made


def wait_for(job, kind, step=0):
    """Watch a job until it has done something."""
    reader = EventReader(job.folder)
    until = time.monotonic() + 120
    while time.monotonic() < until:
        job.touch()
        if any(event.kind == kind and event.step >= step for event in reader.new()):
            return
        assert job.run().state == "running", f"{job.run().text}\n{(job.folder / folders.LOG).read_text()[-2000:]}"
        time.sleep(0.01)
    raise AssertionError(f"no {kind} in two minutes")


def finished(job):
    """Watch a job to its end."""
    for _ in job.follow(0.05):
        pass
    run = job.run()
    assert run.state == "done", f"{run.text}\n{(job.folder / folders.LOG).read_text()[-2000:]}"
    return run


def weights(run):
    from safetensors.torch import load_file

    return load_file(Path(run.adapter) / "adapter_model.safetensors")


def logits(folder, adapter=""):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter) if adapter else model
    with torch.inference_mode():
        return model.eval()(torch.tensor([[1, 9690, 198]])).logits


def margin(folder, adapter=""):
    """By how many nats the chosen answers are likelier than the rejected ones, of all pairs."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from llm_magics.finetuning.tokens import IGNORED, encode, load_tokenizer

    tokenizer = load_tokenizer(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = (PeftModel.from_pretrained(model, adapter) if adapter else model).eval()
    total = 0.0
    for pair in PAIRS:
        for answer, sign in ((pair["chosen"], 1), (pair["rejected"], -1)):
            row = encode(tokenizer, Row((Message("user", pair["prompt"]), Message("assistant", answer))))
            labels = torch.tensor(row.labels)
            with torch.inference_mode():
                logs = model(torch.tensor([row.input_ids])).logits[0, :-1].log_softmax(-1)
            chosen = labels[1:] != IGNORED
            total += sign * float(logs[chosen].gather(1, labels[1:][chosen][:, None]).sum())
    return total


@pytest.fixture(scope="session")
def whole(tiny, tmp_path_factory):
    """A job that nobody disturbed, with validation and a merged model."""
    request = TrainingRequest("job", "tiny", batch_size=4, epochs=4, valid_split=12, merge_adapter=True)
    made = decide(request, tiny, understand(read(list(ROWS), "rows")))
    return finished(Jobs(tmp_path_factory.mktemp("jobs")).start(made))


def test_a_job_leaves_an_adapter_a_merged_model_and_all_that_repeats_it(whole, tiny):
    assert (whole.step, whole.total) == (48, 48)
    assert [step for step, _ in whole.losses] == list(range(1, 49))
    assert len(whole.valid_losses) >= 8
    assert whole.losses[-1][1] < whole.losses[0][1]
    assert max(event.tokens for event in whole.events) > 1000 and max(event.memory for event in whole.events) > 1e7
    changed = logits(tiny.folder, whole.adapter)
    assert (changed - logits(tiny.folder)).abs().max() != 0
    assert (logits(whole.merged) - changed).abs().max() < 1e-4
    from huggingface_hub import ModelCard

    assert ModelCard.load(Path(whole.adapter) / "README.md").data.base_model == tiny.folder
    kept = {path.name for path in Path(whole.folder).iterdir()}
    assert {"spec.json", "train.jsonl", "valid.jsonl", "events.jsonl", "trainer.log"} <= kept


def test_the_same_spec_gives_the_same_adapter_bit_for_bit(whole, decided, jobs):
    again = finished(jobs.start(decided(valid_split=12)))
    assert again.losses == whole.losses
    before, after = weights(whole), weights(again)
    assert before.keys() == after.keys() and all((before[name] == after[name]).all() for name in before)


def test_a_killed_trainer_resumes_to_the_same_adapter(whole, decided, jobs):
    job = jobs.start(decided(valid_split=12))
    wait_for(job, "step", random.randrange(7, 40))
    os.killpg(job.group.pid, signal.SIGKILL)
    assert processes.wait(job.group, 10)
    run = job.run()
    assert run.state == "killed" and not run.adapter
    assert folders.last_checkpoint(job.folder) is not None
    resumed = finished(Jobs(jobs.root).resume())
    assert resumed.step == whole.step
    assert [step for step, _ in resumed.losses] == [step for step, _ in whole.losses]
    assert max(abs(a - b) for (_, a), (_, b) in zip(resumed.losses, whole.losses, strict=True)) < 1e-3
    before, after = weights(whole), weights(resumed)
    assert max(float((before[name] - after[name]).abs().max()) for name in before) < 1e-3


def test_a_stopped_job_has_an_adapter_and_goes_on_where_it_was(decided, jobs):
    job = jobs.start(decided(epochs=40))
    wait_for(job, "step", random.randrange(1, 60))
    run = job.stop()
    assert run.state == "stopped" and not job.running
    assert run.adapter and weights(run)
    assert folders.last_checkpoint(job.folder).name == f"checkpoint-{run.step}"
    before = run.step
    job = jobs.resume()
    wait_for(job, "step", before + 1)
    assert min(event.step for event in job.run().events if event.kind == "begin" and event.step) == before
    assert job.stop().state == "stopped"


def test_a_signal_stops_as_the_button_does_even_before_the_first_step(decided, jobs):
    job = jobs.start(decided())
    wait_for(job, "phase")
    wait_for(job, "phase")
    time.sleep(2)
    os.killpg(job.group.pid, signal.SIGINT)
    assert processes.wait(job.group, 90)
    run = job.run()
    assert run.state == "stopped" and run.adapter and run.step >= 1, (job.folder / folders.LOG).read_text()


def test_a_job_that_runs_is_found_by_another_notebook_and_refused_a_second_time(decided, jobs):
    job = jobs.start(decided(epochs=40))
    code = (
        "import sys; from pathlib import Path; from llm_magics.finetuning.jobs import Jobs\n"
        "job = Jobs(Path(sys.argv[1])).find()\nprint(job.run().state)\n"
        "looks = job.follow(0.05)\n"
        "print(next(event.kind for look in looks for event in look if event.kind == 'step'))\n"
        "print(job.stop().state)"
    )
    with pytest.raises(TrainingError, match="is being trained already"):
        jobs.start(decided())
    assert jobs.resume().group == job.group  # found again, not started again
    done = subprocess.run([sys.executable, "-c", code, str(jobs.root)], capture_output=True, text=True, timeout=180)
    assert done.stdout.split() == ["running", "step", "stopped"], done.stderr
    assert not job.running


def test_a_job_that_nobody_watches_saves_and_ends_unless_it_is_for_the_background(decided, jobs, monkeypatch):
    monkeypatch.setenv("LLM_MAGICS_UNWATCHED_SECONDS", "1")
    watched = jobs.start(decided(epochs=2000))
    wait_for(watched, "step", 1)
    assert processes.wait(watched.group, 60)
    run = watched.run()
    assert run.state == "stopped" and "no notebook has watched it" in run.text and run.adapter
    monkeypatch.setenv("LLM_MAGICS_UNWATCHED_SECONDS", "5")
    alone = jobs.start(decided(name="alone", epochs=2000))
    wait_for(alone, "step", 1)
    assert jobs.resume(name="alone", background=True).group == alone.group  # it runs, and is told all the same
    time.sleep(8)
    assert alone.running
    assert alone.stop().state == "stopped"


def test_training_ends_where_validation_no_longer_improves_and_keeps_its_best_step(decided, jobs):
    made = decided([{"prompt": f"Who is {n}?", "completion": "Nobody."} for n in range(24)], valid_split=4, epochs=60)
    other = understand(read([{"prompt": "Why?", "completion": "Rain fell on seven hills."}], "rows")).rows
    job = jobs.start(dataclasses.replace(made, valid=other * 4))
    run = finished(job)
    losses = dict(run.valid_losses)
    best = min(losses, key=losses.__getitem__)
    assert best < run.step < run.total
    assert f"the adapter is that of step {best}" in run.text and "no longer fell" in run.text
    from safetensors.torch import load_file

    kept = load_file(job.folder / folders.CHECKPOINTS / f"checkpoint-{best}" / "adapter_model.safetensors")
    assert all((kept[name] == found).all() for name, found in weights(run).items())


def test_a_changed_line_does_not_resume_and_says_what_changed(whole, decided, jobs):
    job = jobs.start(decided(epochs=40))
    wait_for(job, "step", 1)
    job.stop()
    with pytest.raises(TrainingError, match="epochs was 40 and is 4; the data has changed"):
        jobs.resume(decided(rows=ROWS[:-1]))
    with pytest.raises(TrainingError, match="came to its end"):
        Jobs(Path(whole.folder).parent).resume()


def test_layers_that_the_base_has_not_are_refused_before_anything_starts(decided, jobs):
    with pytest.raises(LLMMagicsError, match=r"names q_prj, and the base has .*v_proj\. Did you mean q_proj\?"):
        decided(target_modules=("q_prj",))
    assert decided(target_modules=("self_attn.q_proj", "v_proj")).spec.request.target_modules


def test_an_error_of_the_trainer_is_one_line_and_nothing_is_left(decided, jobs):
    made = decided(target_modules=("q_proj",))
    request = dataclasses.replace(made.spec.request, target_modules=("no_such_layer",))
    job = jobs.start(dataclasses.replace(made, spec=dataclasses.replace(made.spec, request=request)))
    for _ in job.follow(0.05):
        pass
    run = job.run()
    assert run.state == "failed" and "no_such_layer" in run.text and "\n" not in run.text
    assert not job.running


@pytest.mark.parametrize("trainer", ["dpo", "orpo"])
def test_preference_pairs_are_learned_from(decided, jobs, trainer):
    run = finished(jobs.start(decided(PAIRS, trainer=trainer, epochs=2)))
    assert run.step == 6 and len(run.losses) == 6
    base = decided(PAIRS, trainer=trainer).spec.base.folder
    assert margin(base, run.adapter) > margin(base)


def test_checkpoints_follow_the_steps_that_the_trainer_comes_to(decided, jobs):
    made = decided(packing=True, max_length=128, epochs=3)
    assert made.report.steps == 24, "45 without packing"
    wrong = dataclasses.replace(made, spec=dataclasses.replace(made.spec, steps=800))
    run = finished(jobs.start(wrong))
    assert run.total == made.report.steps
    saved = [event.step for event in run.events if event.kind == "save"]
    assert saved == [5, 10, 15, 20, 24], "as of 24 steps, where 800 were told"


def test_two_processes_are_two_and_learn_as_one_does(decided, jobs, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    one = finished(jobs.start(decided(name="one")))
    two = finished(jobs.start(decided(name="two", processes=2, batch_size=2)))
    assert two.step == one.step
    assert max(event.tokens for event in two.events) == max(event.tokens for event in one.events)
    gaps = [abs(a - b) for (_, a), (_, b) in zip(one.losses, two.losses, strict=True)]
    assert sum(gaps) / len(gaps) < 0.05, gaps
    # Each process sees half of the rows: only where their gradients are averaged do they come to what one comes to.
    alone, together = weights(one), weights(two)
    apart = sum(float(((alone[name] - together[name]) ** 2).sum()) for name in alone)
    whole = sum(float((alone[name] ** 2).sum()) for name in alone if "lora_B" in name)  # these begin at 0
    assert apart < 0.06 * whole, (apart, whole)  # 0.015 of it; 0.17 where nothing is averaged
    assert not list(temporary.glob("torchelastic*")), "torchrun never removes what it makes there"


def test_the_command_for_another_machine_brings_it_into_the_job(decided, jobs):
    assert jobs.start(decided(name="alone", epochs=1)).elsewhere == ""
    job = jobs.start(decided(nodes=2, batch_size=2, epochs=1))
    command = job.elsewhere
    assert str(job.folder) in command and "--nnodes=2" in command and socket.gethostname() in command
    other = subprocess.Popen(shlex.split(command), cwd="/", env={**os.environ, "PYTHONPATH": os.getcwd()})
    try:
        run = finished(job)
        assert other.wait(60) == 0
    finally:
        other.kill()
    assert run.step == run.total == 15 and job.elsewhere == ""
    assert max(event.tokens for event in run.events) == decided(epochs=1).report.tokens


def test_starts_that_come_to_nothing_leave_the_model_where_it_was(decided, jobs, monkeypatch):
    from llm_magics.finetuning import autotrain

    cut_off = jobs.root / ".new" / "job"
    cut_off.mkdir(parents=True)
    (cut_off / "train.jsonl").write_text("{")
    run = finished(jobs.start(decided(epochs=1)))

    def fails(say):
        raise TrainingError("no network")

    monkeypatch.setattr(autotrain.environments, "autotrain_environment", fails)
    before = weights(run)
    for _ in range(2):
        with pytest.raises(TrainingError, match="no network"):
            jobs.start(decided(backend="autotrain", epochs=1))
    assert jobs.find("job").run().state == "done" and weights(run).keys() == before.keys()
    assert [run.name for run in jobs.runs()] == ["job"]
    monkeypatch.undo()
    for number in range(2):  # trained anew twice, and ended before there is anything
        job = jobs.start(decided(epochs=400))
        wait_for(job, "phase")
        processes.end(job.group, patience=0)
        assert (jobs.root / ".replaced" / "job" / folders.ADAPTER).is_dir(), number
    assert jobs.opens_earlier("job").endswith("--as job-earlier")


def test_a_job_that_had_to_be_ended_is_told_as_stopped(decided, jobs, monkeypatch, tmp_path):
    jobs.root.mkdir()
    job = Job(jobs.root / "job")
    job.write(decided())
    deaf = "import signal, time; signal.signal(2, signal.SIG_IGN); signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    EventLog(job.folder).write("start")
    group = processes.start([sys.executable, "-c", deaf], os.environ, tmp_path / "log", tmp_path)
    folders.write_json(job.folder / folders.PROCESS, dataclasses.asdict(group))
    end = processes.end
    monkeypatch.setattr(processes, "end", lambda group, patience: end(group, patience=0.2))
    run = job.stop(patience=0.5)
    assert not job.running and (run.state, run.text) == ("stopped", "it did not end by itself and was ended")


def test_a_name_that_is_used_again_keeps_the_earlier_job_aside(decided, jobs):
    jobs.root.mkdir()
    job = Job(jobs.root / "job")
    job.write(decided())
    (job.folder / "note").write_text("before")
    jobs._set_aside(job.folder)
    assert (jobs.root / ".replaced" / "job.unfinished" / "note").read_text() == "before"
    assert jobs.runs() == ()
    job.folder.mkdir()
    (job.folder / "mine").write_text("x")
    with pytest.raises(TrainingError, match="holds something else"):
        jobs.start(decided())


def ended(decided, jobs, kind, step):
    """A job's folder as it is after its end; no process was ever there."""
    job = Job(jobs.root / "job")
    job.write(decided())
    log = EventLog(job.folder)
    log.write("start")
    log.write("step", step=step, total=400, loss=1.0)
    if kind != "killed":
        (job.folder / folders.ADAPTER).mkdir()
        log.write("end" if kind == "done" else kind)
    assert job.run().state == kind and job.run().step == step
    return job


def test_no_unfinished_job_takes_the_place_of_a_model_or_of_one_that_came_further(decided, jobs):
    jobs.root.mkdir()
    aside = jobs.root / ".replaced"
    for kind, step in (("done", 400), ("stopped", 300), ("killed", 1), ("stopped", 2)):
        jobs._set_aside(ended(decided, jobs, kind, step).folder)
    assert Job(aside / "job").run().state == "done"
    assert Job(aside / "job.unfinished").run().step == 300
    assert "--adapter" in jobs.opens_earlier("job") and "job.unfinished" not in jobs.opens_earlier("job")
    shutil.rmtree(aside / "job")
    assert "job.unfinished" in jobs.opens_earlier("job")
    jobs._set_aside(ended(decided, jobs, "stopped", 301).folder)
    assert Job(aside / "job.unfinished").run().step == 301


def test_a_copied_folder_is_a_job_of_its_own_name(decided, jobs):
    jobs.root.mkdir()
    shutil.copytree(ended(decided, jobs, "done", 400).folder, jobs.root / "backup")
    assert sorted(run.name for run in jobs.runs()) == ["backup", "job"]
    assert jobs.find("backup").run().state == "done"


def test_a_job_on_another_machine_runs_as_long_as_its_events_tell(decided, jobs, monkeypatch):
    jobs.root.mkdir()
    job = ended(decided, jobs, "killed", 7)
    group = processes.Group(os.getpid(), "another boot 1", "another-machine")
    folders.write_json(job.folder / folders.PROCESS, dataclasses.asdict(group))
    assert job.run().state == "running"
    with pytest.raises(TrainingError, match="being trained already"):
        jobs.start(decided())
    with pytest.raises(TrainingError, match="job runs on another-machine, and ends there after its step"):
        job.stop()
    assert (job.folder / folders.STOP).exists()
    long_ago = time.time() - 3600
    os.utime(job.folder / "events.jsonl", (long_ago, long_ago))
    assert job.run().state == "killed"
    EventLog(job.folder).write("stopped")
    assert job.run().state == "stopped" and not job.running


def test_a_pause_before_a_job_goes_on_is_no_step_to_wait_for(tmp_path):
    times = [("begin", 0), ("step", 10), ("start", 90_000), ("begin", 90_010), ("step", 90_012)]
    events = tuple(TrainingEvent(kind, float(when)) for kind, when in times)
    assert _longest_step(events) == 10


def test_a_full_disk_is_told_before_anything_starts(decided, jobs, monkeypatch):
    made = decided()
    base = dataclasses.replace(made.spec.base, parameters=10**15)
    request = dataclasses.replace(made.spec.request, merge_adapter=True)
    full = dataclasses.replace(made, spec=dataclasses.replace(made.spec, base=base, request=request))
    with pytest.raises(TrainingError, match="Free some disk"):
        jobs.start(full)
    assert jobs.runs() == ()


def test_a_job_that_is_not_there_is_told(jobs):
    with pytest.raises(LLMMagicsError, match="no model has been tuned"):
        jobs.find()
    with pytest.raises(LLMMagicsError, match="there is no fine-tuning job x"):
        jobs.find("x")
