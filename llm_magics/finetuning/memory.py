"""Whether a job fits beside the models that a session has open, in bytes of the memory that both take."""

from __future__ import annotations

from .spec import TrainingSpec
from .steps import longest_text

_ROOM = 1.1  # what allocators leave unused between their blocks
_WEIGHT = {"nf4": 0.55, "int8": 1.0}  # bytes a weight; the rest of what is quantized is scales and the embeddings
# The loss weighs every word of the vocabulary at every token. TRL does it in tiles of so many tokens and words, other
# trainers at once; copies in float32 that were seen (docs/decisions.md, "Fine-tuning"), on a GPU from TRL's source.
_TILE_TOKENS, _TILE_WORDS = 4096, 32768
_TILES = {"cpu": 8, "cuda": 2}
_WHOLE = 4
# On a processor the logits of few tokens are computed at once (workers/sft.py): numbers, and copies that are seen.
MOST_LOGITS, _PLAIN = 1 << 27, 3
_LARGE = 1e9  # weights from which the worker keeps a layer's input only and computes the rest again


def training_memory(spec: TrainingSpec) -> int:
    """What a job takes at its highest, a rough guess on the safe side.

    Activations are counted as in Korthikanti et al. 2022 (arXiv:2205.05198): 34 bytes a token, layer and number of
    the hidden state in half precision, 2 where they are computed again.

    Args:
        spec: the job.

    Returns:
        Bytes.
    """
    request, base = spec.request, spec.base
    number = 2 if spec.device == "cuda" else 4
    layers = max(1.0, base.parameters / (12 * base.width**2))
    weights = base.parameters * _WEIGHT.get(request.quantization, number)
    adapter = 18 * layers * base.width * request.lora_r * 16  # bytes: weight, gradient and Adam's two figures
    texts = longest_text(request, spec.rows, spec.longest) * (request.batch_size or 1)  # tokens
    tokens = texts * (1 if request.trainer == "sft" else 4)
    again = spec.device == "cuda" and base.parameters > _LARGE
    activations = tokens * base.width * (number * layers + 34 if again else 17 * number * layers)
    return int(weights + adapter + activations + _words(spec, texts * (1 if request.trainer == "sft" else 2)))


def too_large(spec: TrainingSpec, room: int) -> str:
    """Why a job may not fit at all, in a line for a person; empty where it does.

    Args:
        spec: the job.
        room: bytes that are free in its memory, with what can be put away.
    """
    needed = training_memory(spec)
    if needed <= room:
        return ""
    smaller = "-q nf4, " if spec.device == "cuda" and spec.request.quantization == "none" else ""
    return (
        f"it takes about {needed / 1e9:.1f} GB while it trains, and {room / 1e9:.1f} GB can be had: "
        f"take {smaller}a smaller --batch-size with --gradient-accumulation, or a smaller --max-length"
    )


def _words(spec: TrainingSpec, tokens: int) -> int:
    """Bytes of the words' weights (logits) at so many tokens."""
    words = spec.base.vocabulary
    if spec.request.backend == "trl" and spec.request.trainer != "orpo":
        plain = min(tokens * words, MOST_LOGITS) * _PLAIN if spec.device == "cpu" else 0
        return 4 * max(plain, min(tokens, _TILE_TOKENS) * min(words, _TILE_WORDS) * _TILES[spec.device])
    return 4 * tokens * words * _WHOLE


def must_put_away(held: int, needed: int, free: int) -> bool:
    """Whether the session's model has to leave the memory before a job starts, and come back afterwards.

    Args:
        held: bytes of the session's models there.
        needed: bytes of the job, from ``training_memory``.
        free: bytes that are free there now, with the session's models in it.
    """
    return held > 0 and needed * _ROOM > free
