"""Tokens a second of processor time: our worker against AutoTrain and against plain ``trl sft``, same rows, one run.

Tokens are those of the rows, whatever a back end makes of them: padding does not count, and a token that a back end
saves itself counts. Loading is left out: the clock of a job's processes is read at its first and at its last step.
Ours is measured without the everyday texts, which the others have not, and then with them. AutoTrain needs its
environment, which is made where it is not there; without a network its line is left out.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import psutil

from llm_magics import ModelRequest
from llm_magics.engines.resolve import resolve
from llm_magics.engines.transformers import prepare
from llm_magics.errors import LLMMagicsError
from llm_magics.finetuning.data import Row, understand
from llm_magics.finetuning.jobs import Jobs
from llm_magics.finetuning.rows import read
from llm_magics.finetuning.spec import decide, read_base
from llm_magics.finetuning.tokens import encode, load_tokenizer
from llm_magics.values.training import TrainingRequest

ROWS, BATCH, GOAL = 60, 4, 1.5


def conversations():
    """Rows of one to four questions each, so that a batch has long and short ones."""
    draw = random.Random(0)
    found = []
    for number in range(ROWS):
        turns = []
        for part in range(draw.choice([1, 1, 1, 2, 3, 4])):
            turns += [{"role": "user", "content": f"What stands on page {number}, line {part}?"}]
            turns += [{"role": "assistant", "content": f"Line {part} of page {number} names the town of Hexmarr."}]
        found.append(turns)
    return found


def plain(base, rows):
    """TRL's trainer as its command has it: padded batches in float32. Tokens a second of processor time."""
    import datasets
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    tokenizer = load_tokenizer(base.folder)
    encoded = [encode(tokenizer, row) for row in rows]
    records = [{"input_ids": list(one.input_ids), "labels": list(one.labels)} for one in encoded]
    arguments = SFTConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=BATCH, num_train_epochs=1, learning_rate=1e-3,
        save_strategy="no", use_cpu=True, bf16=False, gradient_checkpointing=False, dataloader_pin_memory=False,
        report_to="none", disable_tqdm=True, max_length=None, dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32),
        args=arguments,
        train_dataset=datasets.Dataset.from_list(records),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    begin = time.process_time()
    trainer.train()
    return sum(len(one["input_ids"]) for one in records) / (time.process_time() - begin)


def processor_seconds(group):
    """What a job's processes have used so far, those that have ended with them."""
    total = 0.0
    for one in [psutil.Process(group.pid), *psutil.Process(group.pid).children(recursive=True)]:
        times = one.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def job_speed(base, table, folder, **options):
    """A job's tokens a second of processor time, between its first step and its last."""
    request = TrainingRequest("job", "smollm2", batch_size=BATCH, epochs=1, background=True, **options)
    decided = decide(request, base, understand(table))
    job = Jobs(folder).start(decided)
    used, steps = [], []
    for news in job.follow(0.05):
        seen = [event.step for event in news if event.kind == "step"]
        if seen:
            used.append(processor_seconds(job.group))
            steps.append(seen[-1])
    run = job.run()
    if run.state != "done":
        raise SystemExit(f"{request.backend}: {run.text}")
    share = (steps[-1] - steps[0]) / run.total
    return share * decided.report.tokens / (used[-1] - used[0])


def main() -> int:
    """Print the table; 1 where the goal is missed."""
    if find_spec("trl") is None:
        sys.exit('trl is not installed: pip install -e ".[finetune]"')
    base = read_base(prepare(resolve("smollm2"), ModelRequest("smollm2")).folder)
    table = read(conversations(), "rows")
    rows: tuple[Row, ...] = understand(table).rows
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        found["ours"] = job_speed(base, table, Path(folder, "ours"), mix="none")
        found["ours with everyday texts"] = job_speed(base, table, Path(folder, "texts"))
        try:
            found["AutoTrain"] = job_speed(base, table, Path(folder, "autotrain"), backend="autotrain")
        except LLMMagicsError as error:
            print(f"AutoTrain: {error}")
    found["plain trl sft"] = plain(base, rows)
    for name, speed in found.items():
        print(f"{name:26} {speed:7.1f} tokens a second of processor time, ours {found['ours'] / speed:.2f} times")
    return 0 if all(found["ours"] >= GOAL * found.get(name, 0) for name in ("AutoTrain", "plain trl sft")) else 1


if __name__ == "__main__":
    sys.exit(main())
