"""Optimizer steps that are told before a job starts, against those that its trainer comes to."""

from __future__ import annotations

import random

import pytest

from llm_magics.finetuning.steps import block_size, count_steps, passes
from llm_magics.values.training import TrainingRequest


def request(**options):
    return TrainingRequest(**{"name": "job", "base": "smollm2", "batch_size": 4, "epochs": 1, **options})


def test_steps_are_counted_as_the_trainer_does():
    assert count_steps(request(epochs=1.5), [9] * 64) == 24
    assert count_steps(request(gradient_accumulation=3), [9] * 65) == 6
    assert count_steps(request(processes=2), [9] * 64) == 8


def test_rows_that_are_packed_make_as_many_blocks_as_trl_makes_of_them():
    datasets = pytest.importorskip("datasets", reason="the extra finetune is not installed")
    data_utils = pytest.importorskip("trl.data_utils", reason="the extra finetune is not installed")
    draw = random.Random(0)
    for most, rows in ((128, 60), (64, 500), (512, 2300)):
        lengths = [draw.randint(1, most) if draw.random() < 0.5 else draw.randint(1, most // 8) for _ in range(rows)]
        tokens = datasets.Dataset.from_dict({"input_ids": [[1] * length for length in lengths]})
        blocks = len(data_utils.pack_dataset(tokens, most))
        assert blocks < rows
        assert count_steps(request(packing=True, max_length=most, batch_size=1), lengths) == blocks


def test_autotrains_steps_are_those_of_whole_blocks_and_whole_epochs():
    rows = [49] * 40  # 2,000 tokens with the token that ends each: 31 blocks of 64, 8 batches of 4
    assert block_size(40 * 49, 49, 512) == 64
    assert count_steps(request(backend="autotrain", max_length=512), rows) == 8
    assert count_steps(request(backend="autotrain", max_length=512, epochs=1.5), rows) == 16
    assert count_steps(request(backend="autotrain", max_length=512, gradient_accumulation=3), rows) == 2
    assert count_steps(request(backend="autotrain", max_length=512), [5]) == 1
    assert passes(request(backend="autotrain", epochs=1.5)) == 2 and passes(request(epochs=1.5)) == 1.5


def test_a_block_is_never_so_long_that_the_rows_fill_only_a_few():
    assert block_size(3400, 61, 1024) == 64
    assert block_size(100000, 900, 1024) == 1024
    assert block_size(100000, 900, 512) == 512
    assert block_size(300, 200, 1024) == 32
