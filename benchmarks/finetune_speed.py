"""Tokens a second of CPU time: rows without padding, as the worker trains, against plain padded batches of TRL.

The same 60 rows of mixed lengths, the same seed, one process, the variants in turn. The losses have to agree.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from importlib.util import find_spec

from llm_magics import ModelRequest
from llm_magics.engines.resolve import resolve
from llm_magics.engines.transformers import prepare
from llm_magics.finetuning.data import understand
from llm_magics.finetuning.rows import read
from llm_magics.finetuning.tokens import encode, load_tokenizer

ROWS, BATCH, GOAL = 60, 4, 1.5
SKIPPED = {"max_length": None, "dataset_kwargs": {"skip_prepare_dataset": True}}


def records(tokenizer):
    """Rows of one to four questions each, so that a batch has long and short ones."""
    draw = random.Random(0)
    found = []
    for number in range(ROWS):
        turns = []
        for part in range(draw.choice([1, 1, 1, 2, 3, 4])):
            turns += [{"role": "user", "content": f"What stands on page {number}, line {part}?"}]
            turns += [{"role": "assistant", "content": f"Line {part} of page {number} names the town of Hexmarr."}]
        (row,) = understand(read([turns], "rows")).rows
        encoded = encode(tokenizer, row)
        found.append({"input_ids": list(encoded.input_ids), "labels": list(encoded.labels)})
    return found


def train(folder, tokenizer, rows, **options):
    """CPU seconds and the loss of each step."""
    import datasets
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    torch.manual_seed(0)
    arguments = SFTConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=BATCH, num_train_epochs=1, learning_rate=1e-3,
        logging_steps=1, save_strategy="no", use_cpu=True, bf16=False, gradient_checkpointing=False,
        dataloader_pin_memory=False, report_to="none", disable_tqdm=True, **SKIPPED, **options,
    )  # fmt: skip
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    begin = time.process_time()
    trainer.train()
    return time.process_time() - begin, [log["loss"] for log in trainer.state.log_history if "loss" in log]


def main() -> int:
    """Print the table; 1 where the goal is missed."""
    if find_spec("trl") is None:
        sys.exit('trl is not installed: pip install -e ".[finetune]"')
    folder = prepare(resolve("smollm2"), ModelRequest("smollm2")).folder
    tokenizer = load_tokenizer(folder)
    rows = records(tokenizer)
    tokens = sum(len(row["input_ids"]) for row in rows)
    padded, losses = train(folder, tokenizer, rows)
    free, same = train(folder, tokenizer, rows, padding_free=True)
    apart = max(abs(a - b) for a, b in zip(losses, same, strict=True))
    for name, seconds in (("plain trl sft", padded), ("without padding", free)):
        print(f"{name:16} {seconds:6.1f} s of CPU   {tokens / seconds:6.1f} tokens a second")
    print(f"ratio {padded / free:.2f} (goal {GOAL}); largest difference of a step's loss {apart:.1e}")
    return 0 if padded / free >= GOAL and apart < 1e-2 else 1


if __name__ == "__main__":
    sys.exit(main())
