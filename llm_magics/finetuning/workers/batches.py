"""Batches without padding, in which the tokens that all rows begin with stand once.

The rows of a batch lie one behind the other, each looking only at itself and at the common beginning, which is
mostly the chat template's system text. Every token has the position and sees the tokens that it would have alone,
so the losses are the same and less is computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_magics.finetuning.tokens import IGNORED

# Families whose layers all look at everything before a token and take a mask of any form.
_PLAIN = {"llama", "mistral", "qwen2", "qwen3", "smollm3", "gemma", "phi3", "granite", "olmo2", "starcoder2"}
ASKED = "asked"  # of a batch: labels of the tokens that are not trained on as answers
ROW_TOKENS = "row_tokens"  # of a batch: tokens of its rows, with the beginning counted for each of them


def can_share(config: Any) -> bool:
    """Whether a model takes a mask of any form in all of its layers.

    Args:
        config: its configuration.
    """
    text = config.get_text_config()
    windows = set(getattr(text, "layer_types", None) or ()) - {"full_attention"}
    sliding = getattr(text, "sliding_window", None) and getattr(text, "use_sliding_window", True)
    return text.model_type in _PLAIN and not windows and not sliding


def common_beginning(records: Sequence[Mapping[str, Sequence[int]]]) -> int:
    """How many tokens at the beginning all rows share. The one before the first that is trained on stays with its
    row, since it is where that one is predicted.

    Args:
        records: rows with ``input_ids`` and ``labels``.
    """
    least = len(records[0]["input_ids"])
    for record in records:
        trained = (at for at, label in enumerate(record["labels"]) if label != IGNORED)
        least = min(least, max(0, next(trained, len(record["labels"])) - 1))
    first = records[0]["input_ids"]
    differing = (at for at in range(least) if any(record["input_ids"][at] != first[at] for record in records))
    return next(differing, least)


def collate(records: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, Any]:
    """One batch.

    Args:
        records: rows with ``input_ids`` and ``labels``.

    Returns:
        ``input_ids``, ``labels``, ``position_ids`` and ``ASKED`` of shape (1, tokens), ``attention_mask`` of shape
        (1, 1, tokens, tokens), true where a token looks at another, and the number ``ROW_TOKENS``.
    """
    import torch

    shared = common_beginning(records)
    ids = list(records[0]["input_ids"][:shared])
    labels, asked = [IGNORED] * shared, [IGNORED] * shared
    places = list(range(shared))
    owners = [-1] * shared
    for number, record in enumerate(records):
        length = len(record["input_ids"])
        ids += record["input_ids"][shared:]
        # A row's first token is predicted by none of its own: its label would be taken from the row before.
        own = list(zip(record["input_ids"][shared + 1 :], record["labels"][shared + 1 :], strict=True))
        labels += [IGNORED, *(label for _, label in own)]
        asked += [IGNORED, *(token if label == IGNORED else IGNORED for token, label in own)]
        places += range(shared, length)
        owners += [number] * (length - shared)
    owner = torch.tensor(owners)
    seen = (owner[:, None] == owner) | (owner == -1)
    return {
        "input_ids": torch.tensor([ids]),
        "labels": torch.tensor([labels]),
        "position_ids": torch.tensor([places]),
        "attention_mask": seen.tril()[None, None],
        ASKED: torch.tensor([asked]),
        ROW_TOKENS: sum(len(record["input_ids"]) for record in records),
    }
