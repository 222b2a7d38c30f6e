"""Rows without padding whose common beginning stands once, and the base's word on general texts."""

from __future__ import annotations

import pytest

from llm_magics.finetuning.spec import general_texts
from llm_magics.finetuning.tokens import IGNORED, encode, load_tokenizer
from llm_magics.finetuning.workers.batches import ASKED, ROW_TOKENS, can_share, collate, collator, common_beginning, pad


def record(ids, trained):
    """A row whose last tokens are trained on."""
    return {"input_ids": ids, "labels": [IGNORED] * (len(ids) - trained) + ids[len(ids) - trained :]}


def test_the_token_before_an_answer_stays_with_its_row_and_texts_share_nothing():
    assert common_beginning([record([1, 2, 3, 4, 9], 1), record([1, 2, 3, 5, 9], 1)]) == 3
    assert common_beginning([record([1, 2, 3, 8], 1), record([1, 2, 3, 9], 1)]) == 2
    assert common_beginning([record([1, 2, 3], 3), record([1, 2, 4], 3)]) == 0
    assert common_beginning([record([1, 2, 3, 9], 1)]) == 2


def test_a_batch_has_each_token_once_and_counts_those_of_its_rows():
    pytest.importorskip("torch")
    batch = collate([record([1, 2, 3, 4, 9], 2), record([1, 2, 5, 9], 1)])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 9, 5, 9]]
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, IGNORED, 4, 9, IGNORED, 9]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 2, 3]]
    assert batch["attention_mask"][0, 0, 6].tolist() == [True, True, False, False, False, True, True]
    assert batch[ROW_TOKENS] == 9


def test_questions_are_learned_behind_what_all_rows_begin_with():
    torch = pytest.importorskip("torch")
    from llm_magics.finetuning.workers.sft import mean_loss

    batch = collate([record([1, 2, 3, 4, 5, 9], 1), record([1, 2, 7, 8, 9], 1)])
    no = IGNORED
    assert batch["labels"].tolist() == [[no, no, no, no, no, 9, no, no, 9]]
    assert batch[ASKED].tolist() == [[no, no, no, 4, 5, no, no, 8, no]]
    logs = torch.tensor([[-90.0, -90.0, -1.0, -2.0, -4.0, -90.0, -6.0, -8.0]])
    assert mean_loss(logs, batch[ASKED]).item() == 3  # of 1, 2 and 6
    assert mean_loss(logs, batch["labels"]).item() == 6  # of 4 and 8
    assert mean_loss(logs, batch["labels"], 12).item() == 1
    assert mean_loss(logs, torch.full_like(batch["labels"], no)).item() == 0


def test_long_rows_that_share_little_are_padded_and_others_joined():
    pytest.importorskip("torch")
    beginning, batches = list(range(30)), collator(576)
    short = [record([*beginning, 100 + n, *range(n + 5)], 3) for n in range(4)]
    long = [record([*beginning, 100 + n, *range(480)], 3) for n in range(4)]
    assert batches(short)["input_ids"].shape == (1, 30 + 4 + 5 + 6 + 7 + 8)
    assert batches(long)["input_ids"].shape == (4, 511)
    assert collator(8192)(long)["input_ids"].shape == (1, 30 + 4 * 481), (
        "attention is little of what wide models compute"
    )


def test_what_is_padded_has_the_labels_of_its_rows_and_learns_their_questions_too():
    pytest.importorskip("torch")
    batch, no = pad([record([1, 2, 3, 4, 9], 2), record([1, 2, 5, 9], 1)]), IGNORED
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 9], [1, 2, 5, 9, 0]]
    assert batch["labels"].tolist() == [[no, no, no, 4, 9], [no, no, no, 9, no]]
    assert batch[ASKED].tolist() == [[no, 2, 3, no, no], [no, 2, 5, no, no]]
    assert batch["attention_mask"].tolist() == [[1] * 5, [1, 1, 1, 1, 0]] and batch[ROW_TOKENS] == 9


@pytest.mark.model
def test_every_row_has_the_loss_that_it_has_alone(tiny):
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(tiny.folder)
    model = AutoModelForCausalLM.from_pretrained(tiny.folder, dtype=torch.float32).eval()
    assert can_share(model.config)
    encoded = [encode(tokenizer, row) for row in general_texts()[:5]]
    records = [{"input_ids": list(one.input_ids), "labels": list(one.labels)} for one in encoded]

    def losses(batch):
        labels = batch.pop("labels")[:, 1:]
        batch.pop(ROW_TOKENS, None), batch.pop(ASKED, None)
        with torch.inference_mode():
            logits = model(**batch).logits[:, :-1]
        return cross_entropy(logits.transpose(1, 2), labels, reduction="none")[labels != IGNORED]

    alone = torch.cat([losses({key: torch.tensor([value]) for key, value in one.items()}) for one in records])
    together = collate(records)
    assert together["input_ids"].shape[1] < 0.7 * together[ROW_TOKENS]
    assert (losses(together) - alone).abs().max() < 1e-4
    assert (losses(pad(records)) - alone).abs().max() < 1e-4


@pytest.mark.model
@pytest.mark.parametrize("join", [collate, pad])
def test_the_log_probabilities_are_those_of_all_logits_where_few_are_computed(tiny, join):
    import torch
    from transformers import AutoModelForCausalLM

    from llm_magics.finetuning.workers.sft import log_probs

    tokenizer = load_tokenizer(tiny.folder)
    model = AutoModelForCausalLM.from_pretrained(tiny.folder, dtype=torch.float32).eval()
    encoded = [encode(tokenizer, row) for row in general_texts()[:5]]
    batch = join([{"input_ids": list(one.input_ids), "labels": list(one.labels)} for one in encoded])
    labels = batch.pop("labels")
    batch.pop(ROW_TOKENS), batch.pop(ASKED)
    found = log_probs(model, batch, labels, model.config.vocab_size)
    every = model(**batch).logits[:, :-1].log_softmax(-1)
    wanted = every.gather(-1, labels[:, 1:, None].clamp(min=0))[..., 0]
    chosen = labels[:, 1:] != IGNORED
    assert found.shape == wanted.shape and (found - wanted)[chosen].abs().max() < 1e-4
    gradients = []
    for logs in (found, wanted):
        model.zero_grad()
        (logs * chosen).sum().backward()
        gradients.append(model.get_input_embeddings().weight.grad.clone())
    assert (gradients[0] - gradients[1]).abs().max() < 1e-4 * gradients[1].abs().max()


@pytest.mark.model
def test_a_step_towards_the_base_leaves_less_of_what_the_adapter_changed(tiny):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from llm_magics.finetuning.workers.sft import GeneralTexts, base_logits, divergence, logits

    tokenizer = load_tokenizer(tiny.folder)
    encoded = [encode(tokenizer, row) for row in general_texts()[:6]]
    records = [{"input_ids": list(one.input_ids), "labels": list(one.labels)} for one in encoded]
    texts = GeneralTexts(records, 2, 3)
    assert texts.batch(0)["input_ids"].tolist() == GeneralTexts(records, 2, 3).batch(3)["input_ids"].tolist()
    assert texts.batch(0)["input_ids"].tolist() != texts.batch(1)["input_ids"].tolist()
    model = AutoModelForCausalLM.from_pretrained(tiny.folder, dtype=torch.float32)
    torch.manual_seed(0)
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    batch = texts.batch(0)
    labels = batch.pop("labels")
    before = base_logits(model, batch, labels)
    assert len(before) == int((labels != IGNORED).sum()) and not before.requires_grad
    step = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.1)
    found = []
    for _ in range(5):
        apart = divergence(before, logits(model, batch, labels))
        found.append(apart.item())
        step.zero_grad()
        apart.backward()
        step.step()
    assert found[0] > 0 and found[-1] < found[0]


def test_models_that_look_at_a_window_do_not_share(tiny):
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(tiny.folder)
    config.sliding_window = 128
    assert not can_share(config)
    config = AutoConfig.from_pretrained(tiny.folder)
    config.model_type = "mamba"
    assert not can_share(config)
