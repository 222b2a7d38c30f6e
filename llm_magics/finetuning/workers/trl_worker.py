"""Trains one job with TRL's trainers and PEFT. Run as ``python -m`` with the job's folder, alone or under torchrun.

SIGINT, SIGTERM, a file ``stop`` in the folder, or no notebook that watches any more: after the step that is
running a checkpoint and the adapter are saved, and the process ends with exit code 0. Everything a reader may
want to know goes to ``events.jsonl``.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

from llm_magics.errors import LLMMagicsError, TrainingError
from llm_magics.finetuning import folders
from llm_magics.finetuning.data import Row
from llm_magics.finetuning.events import EventLog
from llm_magics.finetuning.spec import TrainingSpec, read_spec
from llm_magics.finetuning.workers.stopping import StopRequest

_LARGE = 1e9  # weights from which activations take more memory than it is worth to keep them on a GPU


def main(folder: Path) -> int:
    """Train the job in a folder to its end, or on from its last checkpoint.

    Returns:
        The exit code: 0 where it came to its end or was stopped, 1 after an error, which is an event too.
    """
    first = int(os.environ.get("RANK", "0")) == 0
    events = EventLog(folder, silent=not first)
    try:
        spec = read_spec(folder)
        stop = StopRequest(folder, background=spec.request.background)
        stop.listen()
        events.write("phase", text="loading libraries")
        trainer = _trainer(spec, folder, events, stop)
        _check_world(spec, trainer)
        checkpoint = folders.last_checkpoint(folder)
        events.write("phase", text="training" if checkpoint is None else f"going on from step {checkpoint.name[11:]}")
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        reason = "" if trainer.state.global_step >= trainer.state.max_steps else stop.reason() or "stopped"
        _save_adapter(trainer, folder, events)
        if first and not reason and spec.request.merge_adapter:
            from llm_magics.finetuning.merging import merge

            del trainer
            events.write("phase", text="merging the adapter into the base")
            merge(spec.base.folder, folder / folders.ADAPTER, folder / folders.MERGED)
            events.write("merged")
        events.write("stopped" if reason else "end", text=reason)
    except Exception as error:
        traceback.print_exc()
        events.write("error", text=_one_line(error))
        return 1
    return 0


def _one_line(error: Exception) -> str:
    if isinstance(error, LLMMagicsError):
        return str(error)
    text = next(iter(str(error).strip().splitlines()), "")
    if "out of memory" in text or "not enough memory" in text or "can't allocate memory" in text:
        return (
            "memory ran out. Take a smaller --batch-size with --gradient-accumulation, a smaller --max-length or -q nf4"
        )
    return f"{type(error).__name__}: {text[:300]}"


def _check_world(spec: TrainingSpec, trainer: Any) -> None:
    """``accelerate launch`` has been seen to start one process where two were asked for, without a word."""
    wanted = spec.request.processes * spec.request.nodes
    if trainer.args.world_size != wanted:
        raise TrainingError(
            f"{wanted} processes were asked for and {trainer.args.world_size} came up",
            "Look at trainer.log in the job's folder",
        )


def _trainer(spec: TrainingSpec, folder: Path, events: EventLog, stop: StopRequest) -> Any:
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    import datasets
    import torch
    from transformers import set_seed

    from llm_magics.finetuning.tokens import load_tokenizer

    datasets.disable_progress_bars()
    set_seed(spec.request.seed)  # the adapter's first weights are drawn before the trainer seeds anything
    events.write("phase", text="opening the base")
    tokenizer = load_tokenizer(spec.base.folder, trust_remote_code=spec.request.trust_remote_code)
    model = _model(spec, torch)
    train, valid = _datasets(spec, folder, tokenizer)
    kind, options = _kind(spec)
    return kind(
        model,
        args=options(**_arguments(spec, folder, torch)),
        train_dataset=train,
        eval_dataset=valid,
        processing_class=tokenizer,
        peft_config=_adapter(spec),
        callbacks=[_reporter(events, stop)],
    )


def _kind(spec: TrainingSpec) -> tuple[Any, Any]:
    if spec.request.trainer == "dpo":
        from trl import DPOConfig, DPOTrainer

        return DPOTrainer, DPOConfig
    if spec.request.trainer == "orpo":
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        return ORPOTrainer, ORPOConfig
    from trl import SFTConfig, SFTTrainer

    return SFTTrainer, SFTConfig


def _model(spec: TrainingSpec, torch: Any) -> Any:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    cuda = spec.device == "cuda"
    half = torch.bfloat16 if not cuda or torch.cuda.is_bf16_supported() else torch.float16
    quantization = None
    if spec.request.quantization == "nf4":  # as in QLoRA, arXiv:2305.14314: double quantization
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=half,
        )
    elif spec.request.quantization == "int8":
        quantization = BitsAndBytesConfig(load_in_8bit=True)
    return AutoModelForCausalLM.from_pretrained(
        spec.base.folder,
        dtype=half if cuda or quantization else torch.float32,
        quantization_config=quantization,
        device_map={"": int(os.environ.get("LOCAL_RANK", "0"))} if cuda else None,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=spec.request.trust_remote_code,
    )


def _adapter(spec: TrainingSpec) -> Any:
    from peft import LoraConfig

    request = spec.request
    layers = request.target_modules
    return LoraConfig(
        r=request.lora_r,
        lora_alpha=request.lora_alpha or 2 * request.lora_r,
        lora_dropout=request.lora_dropout,
        target_modules=layers[0] if layers == ("all-linear",) else list(layers),
        task_type="CAUSAL_LM",
    )


def _datasets(spec: TrainingSpec, folder: Path, tokenizer: Any) -> tuple[Any, Any]:
    from datasets import Dataset

    def read(name: str) -> Any:
        # Not splitlines(): it also cuts at characters that a JSON string may hold, such as U+2028.
        lines = (folder / name).read_text(encoding="utf-8").split("\n")
        rows = [Row.from_json(line) for line in lines if line]
        return Dataset.from_list([_record(spec, row, tokenizer) for row in rows])

    return read(folders.TRAIN), read(folders.VALID) if spec.valid_rows else None


def _record(spec: TrainingSpec, row: Row, tokenizer: Any) -> dict[str, Any]:
    if spec.request.trainer == "sft":
        from llm_magics.finetuning.tokens import encode

        encoded = encode(tokenizer, row)
        return {"input_ids": list(encoded.input_ids), "labels": list(encoded.labels)}
    answers = {name: [{"role": "assistant", "content": getattr(row, name)}] for name in ("chosen", "rejected")}
    return {"prompt": [message.as_dict() for message in row.messages], **answers}


def _arguments(spec: TrainingSpec, folder: Path, torch: Any) -> dict[str, Any]:
    """Options of the trainer; those for the CPU are as measured (docs/decisions.md, "Fine-tuning")."""
    request, cuda = spec.request, spec.device == "cuda"
    often = max(1, min(100, spec.steps // 8))
    half = cuda and torch.cuda.is_bf16_supported()
    common = {
        "output_dir": str(folder / folders.CHECKPOINTS),
        "per_device_train_batch_size": request.batch_size,
        "per_device_eval_batch_size": request.batch_size,
        "gradient_accumulation_steps": request.gradient_accumulation,
        "num_train_epochs": request.epochs,
        "learning_rate": request.learning_rate,
        "lr_scheduler_type": "linear",
        "max_grad_norm": 1.0,
        "max_length": request.max_length,
        "seed": request.seed,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": often,
        "save_total_limit": 2,
        "eval_strategy": "steps" if spec.valid_rows else "no",
        "eval_steps": often,
        "use_cpu": not cuda,
        "bf16": half,  # left at None it turns on, on a CPU too
        "fp16": cuda and not half,
        "gradient_checkpointing": cuda and spec.base.parameters > _LARGE,
        "dataloader_pin_memory": cuda,
        "report_to": "none",
        "disable_tqdm": True,
        "ddp_find_unused_parameters": False,
    }
    return common if request.trainer != "sft" else {**common, **_without_padding(spec)}


def _without_padding(spec: TrainingSpec) -> dict[str, Any]:
    """The rows of a batch one behind the other, each looking only at itself: nothing is computed on padding."""
    if spec.request.packing:
        return {"packing": True, "completion_only_loss": False}
    return {"padding_free": True, "max_length": None, "dataset_kwargs": {"skip_prepare_dataset": True}}


def _reporter(events: EventLog, stop: StopRequest) -> Any:
    """The callback that writes the events, marks whole checkpoints, and ends the training when asked."""
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            events.write("begin", step=state.global_step, total=state.max_steps)

        def on_step_end(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            if _agreed(args, bool(stop.reason())):
                events.write("phase", text="stopping: saving a checkpoint and the adapter", step=state.global_step)
                control.should_training_stop = control.should_save = True

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **unused: Any) -> None:
            logs = logs or {}
            figures = {"step": state.global_step, "total": state.max_steps, "epoch": round(state.epoch or 0.0, 4)}
            if "eval_loss" in logs:
                events.write("eval", **figures, valid_loss=logs["eval_loss"])
            elif "loss" in logs:
                figures |= {"loss": logs["loss"], "learning_rate": logs.get("learning_rate")}
                events.write("step", **figures, tokens=int(logs.get("num_tokens") or 0), memory=_memory(args))

        def on_save(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            if state.is_world_process_zero:
                folders.mark_whole(Path(args.output_dir) / f"checkpoint-{state.global_step}")
            events.write("save", step=state.global_step, total=state.max_steps)

    return Reporter()


def _agreed(args: Any, wanted: bool) -> bool:
    """Whether any process wants to stop: all have to do it after the same step, or they wait for one another."""
    if args.world_size == 1:
        return wanted
    import torch
    from torch import distributed

    votes = torch.tensor(int(wanted), device=args.device)
    distributed.all_reduce(votes, op=distributed.ReduceOp.MAX)
    return bool(votes.item())


def _memory(args: Any) -> int:
    if args.device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_reserved(args.device))
    import psutil

    return int(psutil.Process().memory_info().rss)


def _save_adapter(trainer: Any, folder: Path, events: EventLog) -> None:
    """Under a temporary name first: a folder of the right name is always whole."""
    events.write("phase", text="saving the adapter", step=trainer.state.global_step)
    if not trainer.is_world_process_zero():
        return
    unfinished = folder / f".{folders.ADAPTER}"
    shutil.rmtree(unfinished, ignore_errors=True)
    trainer.accelerator.unwrap_model(trainer.model).save_pretrained(unfinished)
    (unfinished / "llm_magics.json").write_text(json.dumps({"step": trainer.state.global_step}))
    shutil.rmtree(folder / folders.ADAPTER, ignore_errors=True)
    unfinished.rename(folder / folders.ADAPTER)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
