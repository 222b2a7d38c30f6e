"""TRL's trainer for answers, with three things added: batches without a token that is computed twice, a part of the
loss on the questions, and general questions on which the tuned model is held to what the base says.

From few rows with short answers a model learns more that holds for other words where the questions are learned too
(instruction modelling, Shi et al. 2024, arXiv:2405.14394).

What a model learned before is lost first where nothing asks for it (catastrophic forgetting). Here the base, which
is the same model with the adapter off, says at every step which tokens it would give to a few general texts, and
the tuned model is kept near that: learning without forgetting (Li and Hoiem 2016, arXiv:1606.09282), with texts in
place of the earlier task as in pseudo-rehearsal (Robins 1995, doi:10.1080/09540099550039318).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llm_magics.finetuning.memory import MOST_LOGITS
from llm_magics.finetuning.tokens import IGNORED
from llm_magics.finetuning.workers.batches import ASKED, ROW_TOKENS, collate

ANSWERS_LOSS = "answers_loss"  # of a log: the loss on the rows alone


class GeneralTexts:
    """The general texts in an order of their own, a few a batch, the same ones for the same step.

    Args:
        records: the texts with ``input_ids`` and ``labels``.
        count: how many a batch.
        seed: of the order.
    """

    def __init__(self, records: Sequence[Mapping[str, Sequence[int]]], count: int, seed: int) -> None:
        self._records = list(records)
        random.Random(seed).shuffle(self._records)
        self._count = min(count, len(self._records))

    def batch(self, number: int) -> dict[str, Any]:
        """The texts of a batch, in the form of ``batches.collate``.

        Args:
            number: the batch's, from 0, over all processes.
        """
        begin = number * self._count
        chosen = [self._records[(begin + at) % len(self._records)] for at in range(self._count)]
        made = collate(chosen)
        del made[ROW_TOKENS], made[ASKED]
        return made


def trainer_class(general: GeneralTexts | None, weight: float, questions: float) -> Any:
    """The class of the trainer.

    Args:
        general: texts on which the model is held to the base; None for none.
        weight: of the divergence from the base, in nats a token, beside the loss on the answers.
        questions: of the loss on the questions, in nats a token; only where ``batches.collate`` makes the batches.
    """
    from trl import SFTTrainer

    class AnswersTrainer(SFTTrainer):
        row_tokens = 0
        batches = 0  # since this process began, for the number of a batch within a step

        def floating_point_ops(self, inputs: dict[str, Any]) -> int:
            """Nothing here shows it, and counting all weights takes 3 % of a small step."""
            return 0

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            count = inputs.pop(ROW_TOKENS, None) or inputs["input_ids"].numel()
            asked = inputs.pop(ASKED, None)
            if not model.training:
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            self.row_tokens += count
            # With a number of items the trainer leaves it to the loss to be a batch's part of its step.
            steps = 1 if num_items_in_batch is None else self.current_gradient_accumulation_steps
            more = None if general is None else _distance(self, model, general)  # the base's word, before any graph
            if asked is None:
                loss = super().compute_loss(model, inputs, False, num_items_in_batch)
            else:
                answers = inputs.pop("labels")
                both = answers.where(asked == IGNORED, asked)
                logs = log_probs(model, inputs, both, self.model.config.get_text_config().vocab_size)
                # A number of items is that of all processes, over which the gradients are averaged.
                all_of_them = num_items_in_batch is not None and self.args.average_tokens_across_devices
                loss = mean_loss(logs, answers, num_items_in_batch)
                loss = loss * (self.accelerator.num_processes if all_of_them else 1)
            shown = self.accelerator.gather_for_metrics(loss.detach()).mean().item()
            self._metrics["train"][ANSWERS_LOSS].append(shown * steps)
            if asked is not None:
                loss = loss + questions * mean_loss(logs, asked) / steps
            return loss if more is None else loss + weight * more() / steps

    return AnswersTrainer


def _distance(trainer: Any, model: Any, general: GeneralTexts) -> Callable[[], Any]:
    """How far the model is from its base on the general texts of this batch; computed when it is called."""
    plain = trainer.accelerator.unwrap_model(model)
    a_step = trainer.current_gradient_accumulation_steps
    place = trainer.state.global_step * a_step + trainer.batches % a_step
    trainer.batches += 1
    number = place * trainer.args.world_size + trainer.args.process_index
    wanted = trainer._prepare_inputs(general.batch(number))
    labels = wanted.pop("labels")
    before = base_logits(plain, wanted, labels)
    return lambda: divergence(before, logits(plain, wanted, labels))


def log_probs(model: Any, inputs: dict[str, Any], labels: Any, words: int) -> Any:
    """Log probability of each token from the second on, of shape (rows, tokens - 1); only those with a label count.

    On a processor from the logits of the labelled tokens, where those are few: TRL's head keeps none and computes
    them twice, in twice the time.

    Args:
        model: with or without an adapter.
        inputs: what it takes beside ``labels``.
        labels: of shape (rows, tokens).
        words: of the model's vocabulary.
    """
    import torch
    from torch.nn.functional import cross_entropy

    places = torch.nonzero((labels[:, 1:] != IGNORED).any(0))[:, 0]
    few = len(labels) * len(places) * words <= MOST_LOGITS
    if labels.device.type != "cpu" or not few:
        return model(**inputs, labels=labels, use_cache=False, fused_lm_head=True).log_probs
    said = model(**inputs, use_cache=False, logits_to_keep=places).logits.float()
    wanted = labels[:, 1:][:, places]
    logs = -cross_entropy(said.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="none")
    return torch.zeros_like(labels[:, 1:], dtype=logs.dtype).index_copy(1, places, logs.view_as(wanted))


def mean_loss(logs: Any, labels: Any, count: Any = None) -> Any:
    """Mean negative log-likelihood of those tokens that have a label, in nats.

    Args:
        logs: log probability of each token from the second on, of shape (rows, tokens - 1).
        labels: of shape (rows, tokens).
        count: divide by this number instead of theirs.
    """
    chosen = labels[:, 1:] != IGNORED
    return -(logs * chosen).sum() / (chosen.sum().clamp(min=1) if count is None else count)


def logits(model: Any, inputs: dict[str, Any], labels: Any) -> Any:
    """What a model says before each token that has a label: logits of shape (labels, vocabulary)."""
    import torch

    places = torch.nonzero(labels[0, 1:] != IGNORED)[:, 0]
    return model(**inputs, use_cache=False, logits_to_keep=places).logits[0].float()


def base_logits(model: Any, inputs: dict[str, Any], labels: Any) -> Any:
    """The same with the adapter off."""
    import torch

    with torch.no_grad(), model.disable_adapter():
        return logits(model, inputs, labels)


def divergence(before: Any, now: Any) -> Any:
    """Kullback-Leibler divergence of what the tuned model says from what the base says, in nats a token."""
    from torch.nn.functional import kl_div, log_softmax

    return kl_div(log_softmax(now, -1), log_softmax(before, -1), log_target=True, reduction="batchmean")
