"""What every worker does at the end of a job."""

from __future__ import annotations

import traceback
from pathlib import Path

from llm_magics.errors import LLMMagicsError
from llm_magics.finetuning import folders
from llm_magics.finetuning.events import EventLog
from llm_magics.finetuning.merging import merge
from llm_magics.finetuning.spec import TrainingSpec


def merge_adapter(spec: TrainingSpec, folder: Path, events: EventLog) -> str:
    """Write the merged model where it was asked for. The adapter is there by then, so that a failure is told and
    ends nothing.

    Args:
        spec: the job.
        folder: its folder.
        events: is told of it.

    Returns:
        What failed, in one line; empty where nothing did.
    """
    if not spec.request.merge_adapter:
        return ""
    events.write("phase", text="merging the adapter into the base")
    try:
        merge(
            spec.base.folder,
            folder / folders.ADAPTER,
            folder / folders.MERGED,
            chat_template=spec.base.chat_template,
            trust_remote_code=spec.request.trust_remote_code,
        )
    except Exception as error:
        traceback.print_exc()
        folders.remove_unfinished(folder)
        return f"the adapter is whole, but no merged model could be written: {one_line(error)}"
    events.write("merged")
    return ""


def name_base(adapter: Path, spec: TrainingSpec) -> None:
    """Name the base in the model card of an adapter: PEFT leaves it out where transformers is of version 5.

    Args:
        adapter: folder of the adapter.
        spec: the job.
    """
    from huggingface_hub import ModelCard

    card = ModelCard.load(adapter / "README.md")
    card.data["base_model"] = spec.base.hub_id or spec.base.folder
    card.save(adapter / "README.md")


def one_line(error: Exception) -> str:
    """What went wrong, for an event."""
    text = " ".join(str(error).split()).rstrip(".")
    return text[:400] if isinstance(error, LLMMagicsError) else f"{type(error).__name__}: {text[:300]}"
