"""Trains one job with TRL's trainers and PEFT. Run as ``python -m`` with the job's folder, alone or under torchrun.

SIGINT, SIGTERM, a file ``stop`` in the folder, or no notebook that watches any more: after the step that is
running a checkpoint and the adapter are saved, and the process ends with exit code 0. Everything a reader may
want to know goes to ``events.jsonl``.
"""

from __future__ import annotations

import gc
import json
import math
import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

from llm_magics.errors import TrainingError
from llm_magics.finetuning import folders
from llm_magics.finetuning.data import Row, read_rows
from llm_magics.finetuning.events import EventLog
from llm_magics.finetuning.spec import GENERAL_A_BATCH, GENERAL_WEIGHT, QUESTIONS_WEIGHT, TrainingSpec, read_spec
from llm_magics.finetuning.workers.batches import can_share, collator
from llm_magics.finetuning.workers.ending import merge_adapter, name_base, one_line
from llm_magics.finetuning.workers.sft import ANSWERS_LOSS, GeneralTexts, trainer_class
from llm_magics.finetuning.workers.stopping import StopRequest

_LARGE = 1e9  # weights from which activations take more memory than it is worth to keep them on a GPU
_PATIENCE = 2  # validations without a lower loss after which the training ends


def main(folder: Path) -> int:
    """Train the job in a folder to its end, or on from its last checkpoint.

    Returns:
        The exit code: 0 where it came to its end or was stopped, 1 after an error, which is an event too.
    """
    first = int(os.environ.get("RANK", "0")) == 0
    events = EventLog(folder, silent=not first)
    try:
        spec = read_spec(folder)
        stop = StopRequest(folder)
        stop.listen()
        events.write("phase", text="loading libraries")
        trainer = _trainer(spec, folder, events, stop)
        _check_world(spec, trainer)
        checkpoint = folders.last_checkpoint(folder)
        events.write("phase", text="training" if checkpoint is None else f"going on from step {checkpoint.name[11:]}")
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        reason, said = _ending(trainer, stop)
        _save_adapter(trainer, spec, folder, events)
        if first and not reason:
            del trainer  # its base leaves room for the one that is merged
            gc.collect()
            said = "; ".join(filter(None, [said, merge_adapter(spec, folder, events)]))
        events.write("stopped" if reason else "end", text="; ".join(filter(None, [reason, said])))
    except Exception as error:
        traceback.print_exc()
        EventLog(folder).write("error", text=_one_line(error))  # of any process: the others are ended without a word
        return 1
    return 0


def _ending(trainer: Any, stop: StopRequest) -> tuple[str, str]:
    """Why it was stopped, empty where it came to its end; and what there is to say of its end."""
    state = trainer.state
    best = _best_step(trainer)
    said = f"the adapter is that of step {best}, where the validation loss was lowest" if best else ""
    unfinished = state.global_step < state.max_steps
    waited = max(getattr(one, "early_stopping_patience_counter", 0) for one in trainer.callback_handler.callbacks)
    early = unfinished and waited >= _PATIENCE
    if early:
        said = f"ended at step {state.global_step}: the validation loss no longer fell; {said}"
    return ("" if early or not unfinished else stop.reason() or "stopped"), said


def _best_step(trainer: Any) -> int:
    """The step with the lowest validation loss, whose weights the trainer goes back to; 0 without validation."""
    return int((trainer.state.best_model_checkpoint or "-0").rpartition("-")[2])


def _one_line(error: Exception) -> str:
    said = one_line(error)
    if "out of memory" in said or "not enough memory" in said or "can't allocate memory" in said:
        return (
            "memory ran out. Take a smaller --batch-size with --gradient-accumulation, a smaller --max-length or -q nf4"
        )
    return said


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
    from transformers import EarlyStoppingCallback, set_seed

    datasets.disable_progress_bars()
    set_seed(spec.request.seed)  # the adapter's first weights are drawn before the trainer seeds anything
    events.write("phase", text="opening the base")
    tokenizer = spec.base.tokenizer(trust_remote_code=spec.request.trust_remote_code)
    model = _model(spec, torch)
    train, valid = _datasets(spec, folder, tokenizer)
    kind, options = _kind(spec, _general(spec, folder, tokenizer))
    own = spec.request.trainer == "sft" and not spec.request.packing and can_share(model.config)
    arguments = {**_arguments(spec, folder, torch), **({"padding_free": False} if own else {})}
    trainer = kind(
        model,
        args=options(**arguments),
        train_dataset=train,
        eval_dataset=valid,
        processing_class=tokenizer,
        peft_config=_adapter(spec),
        callbacks=[EarlyStoppingCallback(_PATIENCE)] if spec.valid_rows else [],
        **({"data_collator": collator(spec.base.width)} if own else {}),
    )
    trainer.add_callback(_reporter(events, stop, trainer, spec.valid_rows))
    return trainer


def _general(spec: TrainingSpec, folder: Path, tokenizer: Any) -> GeneralTexts | None:
    records = list(_read(spec, folder / folders.GENERAL, tokenizer))
    return GeneralTexts(records, GENERAL_A_BATCH, spec.request.seed) if records else None


def _kind(spec: TrainingSpec, general: GeneralTexts | None) -> tuple[Any, Any]:
    if spec.request.trainer == "dpo":
        from trl import DPOConfig, DPOTrainer

        return DPOTrainer, DPOConfig
    if spec.request.trainer == "orpo":
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        return ORPOTrainer, ORPOConfig
    from trl import SFTConfig

    return trainer_class(general, GENERAL_WEIGHT, QUESTIONS_WEIGHT), SFTConfig


def _model(spec: TrainingSpec, torch: Any) -> Any:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    cuda = spec.device == "cuda"
    half = torch.bfloat16 if not cuda or torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
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
        dtype=half if cuda or quantization or _computes_in_bf16(torch) else torch.float32,
        quantization_config=quantization,
        device_map={"": int(os.environ.get("LOCAL_RANK", "0"))} if cuda else None,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=spec.request.trust_remote_code,
    )


def _computes_in_bf16(torch: Any) -> bool:
    """Whether the processor multiplies matrices in bfloat16 itself, in half the time; the adapter stays float32."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


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

    train = Dataset.from_list(_read(spec, folder / folders.TRAIN, tokenizer))
    return train, Dataset.from_list(_read(spec, folder / folders.VALID, tokenizer)) if spec.valid_rows else None


def _read(spec: TrainingSpec, path: Path, tokenizer: Any) -> list[dict[str, Any]]:
    if not path.is_file():  # a job of an earlier version has no general texts
        return []
    return [_record(spec, row, tokenizer) for row in read_rows(path)]


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
    often = _often(spec.steps, spec.valid_rows)  # the reporter sets it anew from the trainer's own count
    half = torch.cuda.is_bf16_supported(including_emulation=False) if cuda else _computes_in_bf16(torch)
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
        "load_best_model_at_end": bool(spec.valid_rows),
        "metric_for_best_model": "eval_loss" if spec.valid_rows else None,
        "restore_callback_states_from_checkpoint": bool(spec.valid_rows),  # how long the loss has not fallen
        "report_to": "none",
        "disable_tqdm": True,
        "ddp_find_unused_parameters": False,
    }
    return common if request.trainer != "sft" else {**common, **_without_padding(spec)}


def _often(steps: int, valid_rows: int) -> int:
    """After how many steps a checkpoint is saved and the validation rows are read: eight times, or every 100.

    A checkpoint takes a third of a small step: without validation there are at least five steps between two.
    """
    return max(1 if valid_rows else 5, min(100, math.ceil(steps / 8)))


def _without_padding(spec: TrainingSpec) -> dict[str, Any]:
    """The rows of a batch one behind the other, each looking only at itself: nothing is computed on padding."""
    if spec.request.packing:
        return {"packing": True, "completion_only_loss": False}
    return {"padding_free": True, "max_length": None, "dataset_kwargs": {"skip_prepare_dataset": True}}


def _reporter(events: EventLog, stop: StopRequest, trainer: Any, valid_rows: int) -> Any:
    """The callback that writes the events, marks whole checkpoints, and ends the training when asked."""
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            state.save_steps = state.eval_steps = _often(state.max_steps, valid_rows)
            events.write("begin", step=state.global_step, total=state.max_steps)

        def on_step_end(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            # All processes stop after the same step, or they wait for one another.
            if _over_all(args, int(bool(stop.reason())), "MAX"):
                events.write("phase", text="stopping: saving a checkpoint and the adapter", step=state.global_step)
                control.should_training_stop = control.should_save = True

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **unused: Any) -> None:
            logs = logs or {}
            figures = {"step": state.global_step, "total": state.max_steps, "epoch": round(state.epoch or 0.0, 4)}
            if "eval_loss" in logs:
                events.write("eval", **figures, valid_loss=logs["eval_loss"])
            elif "loss" in logs:
                figures |= {"loss": logs.get(ANSWERS_LOSS, logs["loss"]), "learning_rate": logs.get("learning_rate")}
                own = getattr(trainer, "row_tokens", None)  # TRL's own count is one over all processes
                tokens = int(logs.get("num_tokens") or 0) if own is None else _over_all(args, own, "SUM")
                events.write("step", **figures, tokens=tokens, memory=_memory(args))

        def on_save(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            if state.is_world_process_zero:
                folders.mark_whole(Path(args.output_dir) / f"checkpoint-{state.global_step}")
            events.write("save", step=state.global_step, total=state.max_steps)

    return Reporter()


def _over_all(args: Any, number: int, how: str) -> int:
    """The ``MAX`` or the ``SUM`` of a number over all processes."""
    if args.world_size == 1:
        return number
    import torch
    from torch import distributed

    numbers = torch.tensor(number, device=args.device)
    distributed.all_reduce(numbers, op=getattr(distributed.ReduceOp, how))
    return int(numbers.item())


def _memory(args: Any) -> int:
    if args.device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_reserved(args.device))
    import psutil

    return int(psutil.Process().memory_info().rss)


def _save_adapter(trainer: Any, spec: TrainingSpec, folder: Path, events: EventLog) -> None:
    """Under a temporary name first: a folder of the right name is always whole."""
    events.write("phase", text="saving the adapter", step=trainer.state.global_step)
    if not trainer.is_world_process_zero():
        return
    unfinished = folder / f".{folders.ADAPTER}"
    shutil.rmtree(unfinished, ignore_errors=True)
    trainer.accelerator.unwrap_model(trainer.model).save_pretrained(unfinished)
    name_base(unfinished, spec)
    (unfinished / "llm_magics.json").write_text(json.dumps({"step": _best_step(trainer) or trainer.state.global_step}))
    shutil.rmtree(folder / folders.ADAPTER, ignore_errors=True)
    unfinished.rename(folder / folders.ADAPTER)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
