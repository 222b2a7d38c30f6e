"""Which of the given choices is the answer: from probabilities to a decision."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence

from ..errors import InputError, did_you_mean
from ..values.messages import Example
from .fewshot import FewShotCell

DECISIONS = ("blend", "calibrated", "model")
"""What decides between the choices: the calibrated model and the nearness of the examples, the calibrated model, or
the model's probabilities as they are."""

_CONTENT_FREE = "N/A"
_TRUST = 0.5  # in the model beside the examples; measured in docs/decisions.md, "Choices with examples"


def decision(wanted: str, *, choices: Sequence[str], select: str, examples: Sequence[Example]) -> str:
    """What decides, where a person did not say or said it.

    Args:
        wanted: one of ``DECISIONS``; empty for the default: ``blend`` where the examples are chosen by likeness, since
            an embedding model is used then anyway, and have the choices as their outputs; else ``calibrated``
            where each choice has an example, since what is leant to is not known from examples that leave one out;
            else ``model``.
        choices: the only possible answers; empty where the model writes freely.
        select: how examples are chosen, as ``examples.choose`` takes it.
        examples: all that there are.

    Returns:
        One of ``DECISIONS``; empty where there are no choices.

    Raises:
        InputError: an unknown word, or one without choices, or examples that can say nothing of them.
    """
    if wanted and wanted not in DECISIONS:
        raise InputError(
            f"--decide {wanted} is unknown", f"{did_you_mean(wanted, DECISIONS)} It takes {', '.join(DECISIONS)}"
        )
    if not choices:
        if wanted:
            raise InputError("--decide goes with --choices", "Type --choices positive,negative")
        return ""
    known = any(matching(examples, choices))
    if wanted == "blend" and not known:
        raise InputError(
            "no example has one of the choices as its output", "Give examples of them, or type --decide calibrated"
        )
    if wanted or (select == "similar" and known):
        return wanted or "blend"
    return "calibrated" if set(choices) <= set(matching(examples, choices)) else "model"


def content_free(cell: FewShotCell) -> FewShotCell:
    """The same cell with a question that says nothing: what the model leans to because of the prompt alone."""
    return dataclasses.replace(cell, question=_CONTENT_FREE)


def calibrated(shares: Sequence[float], leaning: Sequence[float]) -> tuple[float, ...]:
    """Take out what the model leans to anyway: contextual calibration, Zhao et al. 2021 (arXiv:2102.09690).

    Args:
        shares: probability of each choice for the question.
        leaning: the same for the question that says nothing, with the same examples.

    Returns:
        One number a choice, in proportion to the quotient of the two; they sum to 1.
    """
    return _normalised([_log(share) - _log(lean) for share, lean in zip(shares, leaning, strict=True)])


def filled(choices: Sequence[str], nearness: Mapping[str, float]) -> tuple[float, ...]:
    """Nearness of every choice; one without an example is taken to be as near as the others are on average.

    Args:
        choices: the possible answers.
        nearness: probability of each by its examples, where it has any.

    Returns:
        One number a choice; they sum to 1.
    """
    known = [_log(nearness[choice]) for choice in choices if choice in nearness]
    middle = sum(known) / len(known) if known else 0.0
    return _normalised([_log(nearness[choice]) if choice in nearness else middle for choice in choices])


def blended(shares: Sequence[float], nearness: Sequence[float]) -> tuple[float, ...]:
    """The model and the examples together: a logarithmic opinion pool (Genest and Zidek 1986, Statistical Science 1).

    A calibrated model says how much more the question speaks for a choice than no question would; nearness takes the
    place of what to expect before. How far nearness can be trusted was tested on the examples; how far the model can
    is not known, and language models are too sure of labels, so that its logarithms count half.

    Args:
        shares: probability of each choice by the model.
        nearness: probability of each by the examples.

    Returns:
        One number a choice, in proportion to nearness times the root of the model's; they sum to 1.
    """
    return _normalised([_TRUST * _log(share) + _log(near) for share, near in zip(shares, nearness, strict=True)])


def weigh(
    choices: Sequence[str],
    shares: Sequence[float],
    leaning: Sequence[float] | None = None,
    *,
    nearness: Mapping[str, float] | None = None,
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """All that is known of the choices, in one.

    Args:
        choices: the possible answers.
        shares: probability of each by the model.
        leaning: the same for the question that says nothing; None leaves calibration out.
        nearness: probability of each by the examples, where it has any; None leaves them out.

    Returns:
        The probability of each choice, and what it was made of: ``model``, ``calibrated``, ``examples``.
    """
    evidence = {"model": tuple(shares)}
    decided = evidence["model"]
    if leaning is not None:
        evidence["calibrated"] = decided = calibrated(decided, leaning)
    if nearness is not None:
        evidence["examples"] = filled(choices, nearness)
        decided = blended(decided, evidence["examples"])
    apart = {name: dict(zip(choices, part, strict=True)) for name, part in evidence.items()}
    return dict(zip(choices, decided, strict=True)), apart


def matching(examples: Sequence[Example], choices: Sequence[str]) -> tuple[str, ...]:
    """Which choice each example stands for, whatever its case and the space around it.

    Args:
        examples: any number of them.
        choices: the possible answers.

    Returns:
        One choice an example; empty where its output is none of them.
    """
    spelled = {choice.strip().casefold(): choice for choice in reversed(choices)}
    return tuple(spelled.get(example.output.strip().casefold(), "") for example in examples)


def _log(share: float) -> float:
    return math.log(max(share, sys.float_info.min))  # a share below what a float can hold is still no certainty


def _normalised(logs: Sequence[float]) -> tuple[float, ...]:
    most = max(logs)
    shares = [math.exp(log - most) for log in logs]
    return tuple(share / math.fsum(shares) for share in shares)
