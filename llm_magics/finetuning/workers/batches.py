"""Batches without padding, in which the tokens that all rows begin with stand once.

The rows of a batch lie one behind the other, each looking only at itself and at the common beginning, which is
mostly the chat template's system text. Every token has the position and sees the tokens that it would have alone,
so the losses are the same and less is computed. Rows of many tokens that share few are padded after all: attention
compares all tokens that lie one behind the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llm_magics.finetuning.tokens import IGNORED

# Families whose layers all look at everything before a token and take a mask of any form.
_PLAIN = {"llama", "mistral", "qwen2", "qwen3", "smollm3", "gemma", "phi3", "granite", "olmo2", "starcoder2"}
Record = Mapping[str, Sequence[int]]  # of a row: its ``input_ids`` and ``labels``
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


def common_beginning(records: Sequence[Record]) -> int:
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


def collator(width: int) -> Callable[[Sequence[Record]], dict[str, Any]]:
    """What makes batches, each in the form that costs less: joined, or padded where the rows are long.

    A token costs a layer about ``6 * width + n`` products a number of its state, with n the tokens of its row of the
    batch, all of which attention compares (Kaplan et al. 2020, arXiv:2001.08361, table 1).

    Args:
        width: numbers in the model's hidden state.
    """

    def make(records: Sequence[Record]) -> dict[str, Any]:
        lengths = [len(record["input_ids"]) for record in records]
        shared, longest = common_beginning(records), max(lengths)
        joined = shared + sum(length - shared for length in lengths)
        costs = joined * (6 * width + joined), len(records) * longest * (6 * width + longest)
        return collate(records) if costs[0] <= costs[1] else pad(records)

    return make


def pad(records: Sequence[Record]) -> dict[str, Any]:
    """One batch with a row for each record, filled up behind.

    Args:
        records: rows with ``input_ids`` and ``labels``.

    Returns:
        ``input_ids``, ``labels``, ``ASKED`` and ``attention_mask`` of shape (records, tokens), and ``ROW_TOKENS``.
    """
    import torch

    longest = max(len(record["input_ids"]) for record in records)

    def filled(values: Sequence[int], filling: int) -> list[int]:
        return [*values, *[filling] * (longest - len(values))]

    labels = [[IGNORED, *record["labels"][1:]] for record in records]
    asked = [
        [IGNORED, *(i if label == IGNORED else IGNORED for i, label in zip(ids[1:], own[1:], strict=True))]
        for ids, own in ((record["input_ids"], record["labels"]) for record in records)
    ]
    return {
        "input_ids": torch.tensor([filled(record["input_ids"], 0) for record in records]),
        "labels": torch.tensor([filled(row, IGNORED) for row in labels]),
        "attention_mask": torch.tensor([filled([1] * len(record["input_ids"]), 0) for record in records]),
        ASKED: torch.tensor([filled(row, IGNORED) for row in asked]),
        ROW_TOKENS: sum(len(record["input_ids"]) for record in records),
    }


def collate(records: Sequence[Record]) -> dict[str, Any]:
    """One batch, its rows one behind the other, with their common beginning once.

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
