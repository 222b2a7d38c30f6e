"""Fine-tuning jobs that are killed and stopped at random moments: each comes to the same last step.

``kill -9`` of the trainer alone and of its whole group in turn, resumed until the end; then stops (the button's file
and SIGINT in turn), each of which has to leave an adapter that opens. A base of two narrow layers, so that the rounds
are about processes and files and not about arithmetic. ``--rounds 10`` of each by default.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from llm_magics import ModelRequest
from llm_magics.engines.resolve import resolve
from llm_magics.engines.transformers import prepare
from llm_magics.finetuning import folders, processes
from llm_magics.finetuning.data import understand
from llm_magics.finetuning.jobs import Jobs
from llm_magics.finetuning.rows import read
from llm_magics.finetuning.spec import decide, read_base
from llm_magics.values.training import TrainingRequest

ROWS = [{"prompt": f"Who is number {n}?", "completion": f"It is {n}."} for n in range(60)]
EPOCHS, STEPS = 8, 120


def tiny_base(folder):
    """A model of two narrow layers with SmolLM2's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(prepare(resolve("smollm2"), ModelRequest("smollm2")).folder)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return read_base(str(folder))


def wait_for_moment(job, draw):
    """Until a random step, or a random moment before the first, or the end."""
    step = draw.randrange(0, STEPS)
    until = time.monotonic() + 300
    while job.running and job.run().step < step and time.monotonic() < until:
        job.touch()
        time.sleep(0.05)
    time.sleep(draw.random() * (3.0 if step == 0 else 0.3))
    return job.run().step


def kill_round(jobs, decided, number, draw):
    """Kill a job and resume it to its end. Returns its last step and whether a checkpoint was used."""
    job = jobs.start(decided)
    at = wait_for_moment(job, draw)
    if job.running:
        os.kill(job.group.pid, signal.SIGKILL) if number % 2 else os.killpg(job.group.pid, signal.SIGKILL)
    processes.end(job.group, patience=5)
    state = job.run().state
    kept = folders.last_checkpoint(job.folder)
    if state != "done":
        job = jobs.resume()
    for _ in job.follow(0.2):
        pass
    run = job.run()
    steps = [step for step, _ in run.losses]
    whole = run.state == "done" and run.step == STEPS and steps == list(range(1, STEPS + 1)) and bool(run.adapter)
    print(
        f"kill {number}: at step {at} ({state}), from {kept.name if kept else 'the beginning'}: {run.state} {run.step}"
    )
    return whole


def stop_round(jobs, decided, number, draw):
    """Stop a job. Returns whether its adapter opens."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    job = jobs.start(decided)
    at = wait_for_moment(job, draw)
    if number % 2 and job.running:
        os.killpg(job.group.pid, signal.SIGINT)
        processes.wait(job.group, 120)
    run = job.stop()
    opened = False
    if run.adapter:
        base = AutoModelForCausalLM.from_pretrained(decided.spec.base.folder)
        opened = PeftModel.from_pretrained(base, run.adapter) is not None
    print(
        f"stop {number}: asked at step {at}: {run.state} at {run.step}, adapter {'opens' if opened else 'missing'}",
        flush=True,
    )
    return opened and run.state in ("stopped", "done") and not job.running


def main() -> int:
    """Run the rounds; 1 where one of them fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", default=10, type=int)
    parser.add_argument("--seed", default=0, type=int)
    given = parser.parse_args()
    draw = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        base = tiny_base(Path(folder, "base"))
        request = TrainingRequest("job", "tiny", batch_size=4, epochs=EPOCHS)
        decided = decide(request, base, understand(read(ROWS, "rows")))
        assert decided.spec.steps == STEPS
        jobs = Jobs(Path(folder, "jobs"))
        killed = sum(kill_round(jobs, decided, number, draw) for number in range(given.rounds))
        stopped = sum(stop_round(jobs, decided, number, draw) for number in range(given.rounds))
    print(f"killed and resumed to step {STEPS}: {killed} of {given.rounds}; stopped with an adapter: {stopped}")
    return 0 if killed == stopped == given.rounds else 1


if __name__ == "__main__":
    sys.exit(main())
