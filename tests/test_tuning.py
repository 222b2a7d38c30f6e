"""From an open model to a job on it, and from a job to a model that is open beside its base."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from llm_magics import ModelRequest, Session
from llm_magics.finetuning.events import EventLog
from llm_magics.finetuning.jobs import Job
from llm_magics.finetuning.merging import merge
from llm_magics.finetuning.tokens import load_tokenizer
from llm_magics.values.training import RowSource, TrainingRequest

ROWS = RowSource([("Who?", "Me."), ("Where?", "Here.")], "rows")


@pytest.fixture
def revisions(tiny, tmp_path, monkeypatch):
    """The Hub's cache with two revisions of one model."""
    cache = tmp_path / "hub"
    for number, revision in enumerate(("main", "v1")):
        commit = str(number) * 40
        shutil.copytree(tiny.folder, cache / "models--some--tiny" / "snapshots" / commit)
        refs = cache / "models--some--tiny" / "refs"
        refs.mkdir(exist_ok=True)
        (refs / revision).write_text(commit)
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)


def with_adapter(decided):
    """A job that is done: its adapter is one that changes nothing."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    job = Job(Path("finetuned") / decided.spec.request.name)
    job.folder.parent.mkdir(exist_ok=True)
    job.write(decided)
    model = AutoModelForCausalLM.from_pretrained(decided.spec.base.folder)
    adapter = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    get_peft_model(model, adapter).save_pretrained(job.folder / "adapter")
    EventLog(job.folder).write("end")
    return job.run()


@pytest.mark.model
def test_a_job_keeps_the_revision_and_the_template_of_the_open_base_and_comes_back_with_them(revisions, tmp_path):
    session = Session(say=(said := []).append)
    session.load(ModelRequest("some/tiny", revision="v1", chat_template="guanaco"), name="base")
    decided = session.plan_finetuning(TrainingRequest("mine", "base"), ROWS)
    assert decided.spec.base.folder.endswith("1" * 40) and decided.spec.base.hub_id == "some/tiny"
    assert "### Human: Who?\n### Assistant: Me." in "".join(text for text, _ in decided.report.first)
    run = with_adapter(decided)
    base = decided.spec.base
    merge(base.folder, Path(run.adapter), tmp_path / "merged", chat_template=base.chat_template)
    assert load_tokenizer(str(tmp_path / "merged")).chat_template == base.chat_template
    session.attach(run)
    assert [info.name for info in session.models] == ["base", "mine"]
    assert session.plan_finetuning(TrainingRequest("again", "mine"), ROWS).spec.base == base
    assert said.pop() == "mine is a tuned model itself: its base some/tiny is trained on, without what it learned"
    later = Session(say=said.append)
    later.load(ModelRequest("some/tiny"), name="other")
    later.load(ModelRequest("mine"))
    assert [info.name for info in later.models] == ["other", "tiny", "mine"]
    assert said == ["tiny is opened too: mine was trained on another revision or chat template"]
    assert "### Human: Who?" in later.ask("Who?").prompt.text
    source, typed = later._models["tiny"].origin
    assert (source.location, typed.revision) == ("some/tiny", "v1")


@pytest.mark.model
def test_the_consent_to_a_bases_own_code_holds_for_the_job_and_no_longer(revisions, tiny, monkeypatch):
    opened = []
    monkeypatch.setattr(Session, "_put_on", lambda self, request, name: opened.append(request.trust_remote_code))
    for number, trust in enumerate((True, False)):
        request = TrainingRequest(f"mine{number}", tiny.folder, trust_remote_code=trust)
        session = Session(say=lambda line: None)
        session.attach(with_adapter(session.plan_finetuning(request, ROWS)))
        session.load(ModelRequest(f"mine{number}"))
    assert opened == [True, False, False, False]


@pytest.mark.model
def test_a_template_file_that_changed_is_named_when_a_job_is_resumed(tiny, tmp_path):
    template = tmp_path / "own.jinja"
    plans = []
    for first in ("Q: ", "Question: "):
        template.write_text(f"{{% for m in messages %}}{first}{{{{ m.content }}}}{{{{ eos_token }}}}\n{{% endfor %}}")
        request = TrainingRequest("mine", tiny.folder, chat_template=str(template))
        plans.append(Session().plan_finetuning(request, ROWS).spec)
    assert f"the chat template {template} has changed" in plans[0].changes(plans[1])
    other = Session().plan_finetuning(TrainingRequest("mine", tiny.folder), ROWS).spec
    assert f"chat template was {template} and is none" in plans[0].changes(other)
