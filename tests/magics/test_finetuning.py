"""``%llm_finetune`` as a person types it, with real jobs on a base that learns nothing at 30 steps a second."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest

from llm_magics.errors import Interrupted, LLMMagicsError
from llm_magics.finetuning import processes, spec
from llm_magics.finetuning.jobs import Job
from llm_magics.values.training import TrainingRun

LINE = "%llm_finetune rows.csv --name mine --base {tiny} --batch-size 4"


@pytest.fixture
def tuner(notebook, tiny):
    """A notebook in a folder with 40 rows. What it leaves running is ended."""
    rows = "".join(f"Who is number {n}?,It is {'very ' * (n % 5)}{n}.\n" for n in range(40))
    Path("rows.csv").write_text(f"prompt,completion\n{rows}")
    notebook.tiny = tiny.folder
    yield notebook
    for run in notebook.session.jobs.runs():
        group = Job(Path(run.folder)).group
        if group is not None:
            processes.end(group, patience=0.5)


def typed(notebook, line=LINE, **more):
    return line.format(tiny=notebook.tiny) + "".join(f" --{name} {value}" for name, value in more.items())


def stopped_by_a_person(notebook, line, at_step):
    """Run a line that trains and interrupt it as a front end does, after so many steps."""

    def interrupt():
        until = time.monotonic() + 120
        while time.monotonic() < until:
            if any(run.state == "running" and run.step >= at_step for run in notebook.session.jobs.runs()):
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.02)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        return notebook.run(line)
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)


def test_a_table_becomes_a_model_of_its_own_name_beside_its_base(tuner):
    ran = tuner.good(typed(tuner, **{"epochs": 2, "valid-split": 4}))
    run = ran.value
    assert isinstance(run, TrainingRun) and run.state == "done" and run.step == run.total == 18
    assert "rows: 36, 4 more held out" in ran.printed and "optimizer steps: 18" in ran.printed
    assert "It is" in ran.printed.partition("first row:")[2]
    assert "mine · " in ran.printed and "18 of 18" in ran.printed  # 18 steps may be done before the next line is due
    assert "held out: 0 of 4 right before" in ran.printed and "unrelated: 0 of 4 right before" in ran.printed
    models = {info.name: info for info in tuner.session.models}
    base = Path(tuner.tiny).name
    assert list(models) == [base, "mine"] and models["mine"].memory < models[base].memory
    assert tuner.good("%llm -m mine --max-new-tokens 3 Who?").value.model == "mine"
    assert tuner.good(f"%llm -m {base} --max-new-tokens 3 Who?").value.model == base
    listed = tuner.good("%llm_finetune").printed
    assert "mine" in listed and "18 of 18" in listed and "done" in listed
    assert tuner.good("%llm_finetune --status").value == run


def test_the_folder_holds_what_is_needed_to_repeat_the_run(tuner):
    run = tuner.good(typed(tuner, epochs=1, seed=7)).value
    spec = json.loads((Path(run.folder) / "spec.json").read_text())
    assert spec["request"]["seed"] == 7 and spec["request"]["learning_rate"] > 0 and len(spec["data_sha256"]) == 64
    assert {"torch", "transformers", "trl", "peft"} <= set(spec["versions"])


def test_a_tuned_model_opens_by_its_name_in_another_session(tuner, open_notebook):
    folder = Path(tuner.good(typed(tuner, epochs=1) + " --merge-adapter").value.folder)
    other = open_notebook()
    printed = other.good("%llm_load mine").printed
    assert printed.startswith("mine is open") and [info.name for info in other.session.models][-1] == "mine"
    assert other.good(f"%llm_load {tuner.tiny} --adapter {folder} --as again").value is None
    assert len({id(opened.engine._adapters) for opened in other.session._models.values()}) == 1
    other.good(f"%llm_load {folder / 'merged'} --as whole")
    prompts = [
        other.good(f"%llm -m {name} --no-history -t 0 --max-new-tokens 5 Who?").value
        for name in ("mine", "again", "whole")
    ]
    assert len(set(prompts)) == 1


def test_an_interrupt_saves_the_adapter_and_resume_goes_on_to_the_same_last_step(tuner):
    ran = stopped_by_a_person(tuner, typed(tuner, epochs=12), at_step=5)
    assert isinstance(ran.error, Interrupted) and "mine is stopped at step" in str(ran.error)
    (run,) = tuner.session.jobs.runs()
    assert run.state == "stopped" and run.adapter and 5 <= run.step < run.total == 120
    assert not tuner.session.jobs.find("mine").running
    again = tuner.good("%llm_finetune --resume;").value
    assert again.state == "done" and again.step == 120
    assert min(event.step for event in again.events if event.kind == "step") == 1
    assert [event.step for event in again.events if event.kind == "step"] == list(range(1, 121))


def test_a_job_in_the_background_is_seen_stopped_and_never_forgotten(tuner, open_notebook):
    ran = tuner.good(typed(tuner, epochs=400) + " --background")
    assert "in the background" in ran.printed and ran.value is None
    assert tuner.good("%llm_finetune --status mine").value.state == "running"
    assert "mine is being trained already" in tuner.run(typed(tuner)).complaint
    other = open_notebook(load=False)
    assert "Being trained here: mine" in other.good("%load_ext llm_magics").printed
    run = other.good("%llm_finetune --stop").value
    assert run.state in ("stopped", "done") and not other.session.jobs.find("mine").running
    assert "nothing is being trained here" in other.run("%llm_finetune --stop").complaint


def test_the_end_of_a_background_job_is_told_once_below_the_next_cell(tuner, open_notebook):
    tuner.good(typed(tuner, epochs=1) + " --background")
    other = open_notebook()  # finds it running
    job = tuner.session.jobs.find("mine")
    assert "mine on" not in tuner.good("pass").printed
    deque(job.follow(), maxlen=0)
    told = tuner.good("pass").printed
    assert told.startswith(f"mine on {tuner.tiny} · done · step 10 of 10")
    assert told.endswith("\n%llm_load mine opens it\n")
    assert "mine" not in tuner.good("pass").printed
    assert "mine" in other.good("pass").printed
    tuner.good(typed(tuner, epochs=1) + " --background")
    deque(job.follow(), maxlen=0)
    assert tuner.good("%llm_finetune --status mine;").printed.count("· done · step") == 1  # the card's own
    assert "mine" not in tuner.good("pass").printed


def test_the_line_of_a_job_that_was_killed_goes_on_with_it(tuner):
    tuner.good(typed(tuner, epochs=12) + " --background")
    job, until = tuner.session.jobs.find("mine"), time.monotonic() + 120
    while job.run().step < 40:
        assert time.monotonic() < until, job.run().events[-1]
        time.sleep(0.02)
    os.killpg(job.group.pid, signal.SIGKILL)
    assert processes.wait(job.group, 10)
    ran = tuner.good(typed(tuner, epochs=12))
    assert re.search(r"mine was killed at step \d+ of 120, and goes on from its last checkpoint", ran.printed)
    assert "trained anew" not in ran.printed
    assert ran.value.state == "done" and ran.value.step == 120
    assert sum(event.kind == "begin" for event in ran.value.events) == 2


def test_flags_beside_a_resumed_job_are_not_passed_over_where_they_are_the_usual_ones(tuner):
    stopped_by_a_person(tuner, typed(tuner, epochs=12) + " --lora-r 8 --seed 7", at_step=2)
    complaint = tuner.run("%llm_finetune mine --resume --lora-r 16").complaint
    assert "mine cannot be resumed: lora r was 8 and is 16" in complaint and "mine --resume alone" in complaint
    assert "seed was 7 and is 42" in tuner.run("%llm_finetune mine --resume --seed 42").complaint
    tuner.names["mine"] = [("Who?", "Me.")] * 3 + [("You?", "Yes.")] * 3  # data that is called as the job
    again = typed(tuner, "%llm_finetune mine --name mine --base {tiny} --batch-size 4", epochs=12)
    complaint = tuner.run(f"{again} --lora-r 8 --seed 7 --resume").complaint
    assert "the data has changed" in complaint
    assert tuner.good("%llm_finetune mine --resume --lora-r 8 --seed 7;").value.step == 120


def test_what_does_not_fit_now_is_planned_and_told(tuner, monkeypatch):
    for module in ("engines.memory", "engines.transformers", "tuning"):
        monkeypatch.setattr(f"llm_magics.{module}.free_bytes", lambda device: 1000)
    printed = tuner.good(f"{typed(tuner)} --dry-run").printed
    assert "GB while it trains, and 0.0 GB can be had: take a smaller --batch-size" in printed


def test_what_the_back_end_needs_is_missed_before_it_starts(tuner, monkeypatch):
    from llm_magics.finetuning import trl

    monkeypatch.setattr(trl, "find_spec", lambda name: None if name == "bitsandbytes" else True)
    for more in ("--dry-run", "--background"):
        complaint = tuner.run(f"{typed(tuner)} -q int8 {more}").complaint
        assert "bitsandbytes is not installed" in complaint and "llm_magics[quantization]" in complaint
    assert tuner.session.jobs.runs() == ()


def test_models_open_where_files_cannot_be_locked():
    """On Windows, which has no ``fcntl``."""
    code = "import sys; sys.modules['fcntl'] = None; import llm_magics.tuning"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_a_line_run_again_says_what_becomes_of_the_earlier_model_which_opens_meanwhile(tuner, open_notebook):
    tuner.good(typed(tuner, epochs=1))
    again = tuner.good(typed(tuner, epochs=400) + " --background").printed
    opens = f"%llm_load {tuner.tiny} --adapter finetuned/.replaced/mine --as mine-earlier"
    assert f"mine is trained anew, from its base; {opens} opens the earlier one" in again
    other = open_notebook()
    complaint = other.run("%llm_load mine").complaint
    assert "mine is being trained" in complaint and "%llm_finetune mine --resume follows it" in complaint
    assert complaint.endswith(f"{opens} opens the earlier one")
    assert other.good(opens).printed.startswith("mine-earlier is open")
    printed = other.good("%reload_ext llm_magics").printed
    assert printed.count("Being trained here: mine") == 1
    other.good("%llm_finetune --stop mine")


def test_resume_says_which_other_jobs_it_can_go_on_with(tuner):
    tuner.good(typed(tuner, epochs=1))
    complaint = tuner.run("%llm_finetune --resume").complaint
    assert "every job here came to its end, mine the last" in complaint and "--list" in complaint
    for name in ("one", "two"):
        tuner.good(typed(tuner, epochs=400).replace("mine", name) + " --background")
        tuner.good(f"%llm_finetune --stop {name}")
    printed = tuner.good("%llm_finetune --resume --background").printed
    assert "two goes on; %llm_finetune one --resume goes on with one" in printed
    tuner.good("%llm_finetune --stop two")


def test_closing_a_base_says_who_still_holds_its_weights(tuner):
    tuner.good(typed(tuner, epochs=1))
    base = Path(tuner.tiny).name
    weights = {info.name: info.memory for info in tuner.session.models}
    tuner.good(typed(tuner, epochs=1))
    assert {info.name: info.memory for info in tuner.session.models} == weights, "an adapter replaced by one as large"
    assert "; mine still holds its weights" in tuner.good(f"%llm_unload {base}").printed
    (mine,) = tuner.session.models
    assert mine.memory == weights[base] + weights["mine"]
    assert "still" not in tuner.good("%llm_unload").printed


def test_the_other_machines_of_a_job_are_told_what_to_run_until_they_come(tuner):
    printed = tuner.good(typed(tuner, nodes=3) + " --background").printed
    folder = Path("finetuned/mine").resolve()
    assert "It begins when 2 others each run the line below" in printed and str(folder) in printed
    command = tuner.session.jobs.find("mine").elsewhere
    assert command.endswith(f"-m llm_magics.finetuning.workers.trl_worker {folder}")
    assert command in printed and command in tuner.good("%llm_finetune --status").printed
    run = tuner.good("%llm_finetune --stop").value
    assert run.state == "stopped" and run.text == "stopped before the other machines came"
    assert not tuner.session.jobs.find("mine").running
    assert command not in tuner.good("%llm_finetune --status").printed


def test_resume_follows_a_job_that_a_lost_kernel_left_running(tuner, open_notebook):
    tuner.good(typed(tuner, epochs=10) + " --background")
    run = open_notebook().good("%llm_finetune --resume").value
    assert run.state == "done" and sum(event.kind == "start" for event in run.events) == 1


@pytest.mark.parametrize("trainer_too", [False, True], ids=["kernel", "kernel and trainer"])
def test_a_kernel_that_is_killed_leaves_a_job_that_another_one_brings_to_its_end(tuner, trainer_too):
    jupyter_client = pytest.importorskip("jupyter_client")
    manager = jupyter_client.KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=os.getcwd())
    client = manager.blocking_client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=60)
        client.execute(f"%load_ext llm_magics\n{typed(tuner, epochs=40)}")
        jobs, until = tuner.session.jobs, time.monotonic() + 120
        while not any(run.step >= 60 for run in jobs.runs()):
            assert time.monotonic() < until, [run.events[-1] for run in jobs.runs()]
            time.sleep(0.02)
        os.kill(manager.provisioner.pid, signal.SIGKILL)
        group = jobs.find("mine").group
        if trainer_too:
            os.killpg(group.pid, signal.SIGKILL)
            assert processes.wait(group, 10)
        assert jobs.find("mine").run().state == ("killed" if trainer_too else "running")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    run = tuner.good("%llm_finetune mine --resume;").value
    assert run.state == "done" and run.step == run.total == 400
    assert sum(event.kind == "start" for event in run.events) == 1 + trainer_too
    assert [event.step for event in run.events if event.kind == "step"] == list(range(1, 401))


def test_flags_beside_the_name_of_a_job_have_to_be_its_own(tuner):
    stopped_by_a_person(tuner, typed(tuner, epochs=12), at_step=2)
    complaint = tuner.run("%llm_finetune mine --resume --epochs 1 --lr 0.5").complaint
    assert "mine cannot be resumed: epochs was 12 and is 1; learning rate was" in complaint and "is 0.5" in complaint
    assert "--rows is for rows, and the job has its own" in tuner.run("%llm_finetune --resume --rows 3").complaint
    assert tuner.good("%llm_finetune mine --resume --epochs 12;").value.state == "done"


def test_a_job_for_the_background_stays_one_when_a_notebook_follows_it_for_a_while(tuner):
    tuner.good(typed(tuner, epochs=400) + " --background")
    ran = stopped_by_a_person(tuner, "%llm_finetune mine --resume", at_step=5)
    assert isinstance(ran.error, Interrupted)
    assert tuner.session.jobs.find("mine").spec.request.background


def test_a_name_that_is_taken_is_told_in_a_dry_run_and_other_jobs_at_the_start(tuner):
    tuner.good(typed(tuner, epochs=400) + " --background")
    printed = tuner.good(typed(tuner, epochs=1) + " --dry-run").printed
    assert "mine was trained before; it is kept aside when this begins" in printed
    other = tuner.good(typed(tuner, epochs=400).replace("mine", "other") + " --background").printed
    assert "mine is being trained too: all take longer" in other
    assert "mine is being trained too" in tuner.good("%llm_finetune --status").printed
    assert "NAME --resume follows it" in tuner.good("%reload_ext llm_magics").printed
    for name in ("mine", "other"):
        assert f"{name} ends its step and saves what it has" in tuner.good(f"%llm_finetune --stop {name}").printed


def test_a_slice_of_a_variable_is_a_table(tuner):
    tuner.names["pairs"] = [(f"Who is {n}?", f"Number {n}.") for n in range(9)]
    assert "rows: 5" in tuner.good(f"%llm_finetune pairs[:5] --base {tuner.tiny} --dry-run").printed


def test_a_changed_line_is_not_resumed(tuner):
    stopped_by_a_person(tuner, typed(tuner, epochs=12), at_step=2)
    complaint = tuner.run(typed(tuner, epochs=13) + " --resume").complaint
    assert "epochs was 12 and is 13" in complaint
    with Path("rows.csv").open("a") as file:
        file.write("Who is new?,It is new.\n")
    assert "the data has changed" in tuner.run(typed(tuner, epochs=12) + " --resume").complaint


def test_a_dry_run_shows_the_rows_and_starts_nothing(tuner):
    printed = tuner.good(typed(tuner, epochs=1) + " --dry-run").printed
    assert "read as: prompt and completion" in printed and "optimizer steps: 10" in printed
    assert "Warning: 10 optimizer steps hardly change a model: take --epochs 2" in printed
    assert tuner.session.jobs.runs() == () and not Path("finetuned").exists()


@pytest.mark.parametrize("name", ["pairs", "table", 'both["train"]', "part.mine"])
def test_rows_come_from_variables(tuner, name):
    import pandas as pd

    table = pd.DataFrame({"q": ["Who?", "What?"], "a": ["Me.", None]})
    tuner.names.update(
        pairs=[("Who?", "Me."), ("What?", "This.")],
        table=table,
        both={"train": [("Who?", "Me.")]},
        part=SimpleNamespace(mine=[("Who?", "Me.")]),
    )
    columns = " --prompt-column q --completion-column a" if name == "table" else ""
    printed = tuner.good(f"%llm_finetune {name} --base {tuner.tiny} --name x --dry-run{columns}").printed
    assert f"rows: {2 if name == 'pairs' else 1}" in printed
    assert ("left out: 1 empty" in printed) == (name == "table")


def test_the_tutorials_own_line_is_understood_and_int4_is_left_out_without_a_gpu(tuner):
    Path("rows.csv").rename("train.csv")
    line = (
        f"%llm_finetune --train --project_name Llama-Chat --model {tuner.tiny} --data_path . --use_peft --use_int4 "
        "--learning_rate 2e-4 --num_train_epochs 1 --trainer sft --merge_adapter --dry-run"
    )
    printed = tuner.good(line).printed
    assert "--learning_rate" in printed and "--lr" in printed and "always so" in printed
    assert "nf4 needs a GPU here: the base is trained on as it is (--quantization none)" in printed
    assert "optimizer steps: 8" in printed, "AutoTrain joins the 40 rows to blocks"


def test_another_text_column_of_an_autotrain_line_is_read(tuner):
    Path("train.csv").write_text("body,note\n" + "".join(f"It rains on hill {n}.,x\n" for n in range(8)))
    line = f"%llm_finetune --train --project_name a --model {tuner.tiny} --data_path train.csv --text_column body"
    printed = tuner.good(f"{line} --dry-run").printed
    assert "--text_column" in printed and "left out" not in printed
    assert "read as: body, trained on whole" in printed and "rows: 8" in printed


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("%llm_finetune nosuch.csv --base {tiny}", "there is no file or folder nosuch.csv"),
        ("%llm_finetune rowz --base {tiny}", "there is no variable or file rowz"),
        ("%llm_finetune rows.csv --base nosuch", "there is no model nosuch"),
        ("%llm_finetune rows.csv --base {tiny} --lr 0", "--lr is 0"),
        ("%llm_finetune rows.csv --base {tiny} --epochs nan", "--epochs is nan"),
        ("%llm_finetune rows.csv --base {tiny} --name a/b", "--name is 'a/b'"),
        ("%llm_finetune rows.csv --name smollm2", "--name smollm2 is the base's own name"),
        ("%llm_finetune question --base {tiny}", "question is a str and names no file. It takes a DataFrame"),
        ("%llm_finetune wide.csv --base {tiny}", "wide.csv has the columns colour, size"),
        ("%llm_finetune one.csv --base {tiny}", "one column, note: questions and answers take two. Type --text-column"),
        ("%llm_finetune empty.csv --base {tiny}", "empty"),
        ("%llm_finetune photo.csv --base {tiny}", "photo.csv"),
        ("%llm_finetune rows.csv --base {tiny} --max-length 8", "longer than 8 tokens"),
        ("%llm_finetune rows.csv --base {tiny} --trainer dpo", "chosen"),
        ("%llm_finetune rows.csv --base {tiny} -q nf4 --backend autotrain", "without a GPU"),
        ("%llm_finetune some/dataset --base {tiny}", "cannot be had from the Hugging Face Hub"),
        ("%llm_finetune --resume", "no model has been tuned"),
        ("%llm_finetune --stop", "nothing is being trained here"),
        ("%llm_finetune --status mine", "there is no fine-tuning job mine"),
        ("%llm_finetune rows.csv --epoch 3", "no option --epoch"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_left_behind(tuner, line, said):
    Path("wide.csv").write_text("colour,size\nred,3\n")
    Path("one.csv").write_text("note\nred\n")
    tuner.names["question"] = "The courier left my parcel with a neighbour."
    Path("empty.csv").write_text("prompt,completion\n,\n")
    Path("photo.csv").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\xff")
    assert said in tuner.run(line.format(tiny=tuner.tiny)).complaint
    assert not Path("finetuned").exists()


def test_a_job_that_fails_says_why_and_where_to_look(tuner, tmp_path, monkeypatch):
    tuner.good(typed(tuner, epochs=1) + " --dry-run")
    folder = tmp_path / "finetuned" / "mine"
    tuner.good(typed(tuner, epochs=400) + " --background")
    processes.end(tuner.session.jobs.find("mine").group, patience=0)  # as kill -9
    run = tuner.session.jobs.find("mine").run()
    assert run.state == "killed"
    assert "mine on" in tuner.good("pass").printed  # its end is told
    assert "%llm_finetune mine --resume goes on" in tuner.run("%llm_load mine").complaint
    with pytest.raises(LLMMagicsError, match="Type %llm_finetune mine --resume"):
        tuner.session.attach(dataclasses.replace(run, adapter=""))
    assert folder.is_dir()
    monkeypatch.setattr(spec, "_check_layers", lambda request, base: None)
    complaint = tuner.run(typed(tuner, epochs=1) + " --target-modules no_such_layer").complaint
    assert "no_such_layer" in complaint and complaint.endswith("trainer.log") and complaint.count("trainer.log") == 1
    assert "Look at finetuned/mine/trainer.log" in tuner.run("%llm_load mine").complaint
    assert "failed: " in tuner.good("%llm_finetune --list").printed


def test_a_model_without_files_cannot_be_trained_on(tuner, fake):
    assert "fake cannot be trained on" in tuner.run("%llm_finetune rows.csv --name x").complaint


def test_help_and_completion_know_the_flags(tuner):
    printed = tuner.good("%llm_finetune --help").printed
    assert "--merge-adapter" in printed and "--use_int4" in printed
    completions = tuner.shell.Completer.completions("%llm_finetune --me", 18)
    assert "--merge-adapter" in [found.text for found in completions]


def test_the_models_are_put_away_where_a_job_does_not_fit_and_come_back(tuner, monkeypatch):
    from llm_magics import tuning

    tuner.good(f"%llm_load {tuner.tiny} --as base")
    tuner.answers("hello")
    monkeypatch.setattr(tuning, "free_bytes", lambda device: 1000)
    ran = tuner.good(typed(tuner, epochs=1))
    assert "base put away while mine is trained: both do not fit in memory" in ran.printed
    assert {info.name for info in tuner.session.models} == {"base", "fake", "mine"}


def test_a_damaged_job_hides_no_other_and_the_extension_loads(tuner, open_notebook):
    tuner.good(typed(tuner, epochs=1))
    damaged = Path("finetuned/damaged")
    damaged.mkdir()
    (damaged / "spec.json").write_text('{"request": ')
    other = open_notebook()
    assert "mine" in other.good("%llm_finetune --list").printed
    assert "there is no fine-tuning job damaged" in other.run("%llm_finetune --status damaged").complaint


def test_a_disk_that_is_too_small_leaves_the_tuned_model_that_there_was(tuner, monkeypatch):
    tuner.good(typed(tuner, epochs=1))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    assert "Free some disk" in tuner.run(typed(tuner, epochs=1)).complaint
    assert [run.state for run in tuner.session.jobs.runs()] == ["done"]


def test_a_base_without_a_chat_template_is_tuned_on_texts_and_asked_nothing(tuner, tmp_path):
    plain = shutil.copytree(tuner.tiny, tmp_path / "plain")
    (plain / "chat_template.jinja").unlink()
    tuner.names["texts"] = [f"It rains on hill {n}." for n in range(8)]
    ran = tuner.good(f"%llm_finetune texts --name rain --base {plain} --epochs 1")
    assert ran.value.state == "done" and [info.name for info in tuner.session.models] == ["plain", "rain"]
    (line,) = [line for line in ran.printed.splitlines() if line.startswith("rain and its base")]
    assert line.startswith("rain and its base are not asked the same questions: plain has no chat template")
    assert f"%llm_load {plain} --chat-template" in line


def test_rows_with_rare_line_separators_are_tried_out_after_the_training(tuner):
    tuner.names["rows"] = [(f"Who is\u2028number {n}?", f"It is {n}.\u0085") for n in range(8)]
    ran = tuner.good(f"%llm_finetune rows --name odd --base {tuner.tiny} --epochs 1")
    assert "trained on: 0 of 4 right before" in ran.printed
