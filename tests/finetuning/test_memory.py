"""Whether a job fits beside an open model."""

from __future__ import annotations

import dataclasses

from llm_magics.finetuning.memory import must_put_away, training_memory
from llm_magics.finetuning.spec import Base, TrainingSpec
from llm_magics.values.training import TrainingRequest

GIB = 2**30


def spec(parameters, width, device="cuda", longest=512, vocabulary=0, **options):
    request = TrainingRequest("job", "base", **{"batch_size": 4, **options})
    base = Base("/base", width, 8192, parameters, vocabulary)
    return TrainingSpec(request, base, device, 100, 0, longest, 100, "", {})


def test_a_model_is_put_away_only_where_the_job_does_not_fit_beside_it():
    assert not must_put_away(held=14 * GIB, needed=8 * GIB, free=10 * GIB)
    assert must_put_away(held=14 * GIB, needed=8 * GIB, free=int(8.5 * GIB))
    assert not must_put_away(held=0, needed=8 * GIB, free=1 * GIB)


def test_a_job_on_seven_billion_weights_fits_a_card_as_qlora_says():
    four = training_memory(spec(7 * 10**9, 4096, longest=1024, quantization="nf4"))
    assert 4 * GIB < four < 12 * GIB
    assert 14 * GIB < training_memory(spec(7 * 10**9, 4096, longest=1024)) < 24 * GIB


def test_the_small_model_takes_what_was_measured_on_a_cpu():
    """Batches of 4 rows of up to 128 tokens took 2,187 MB with the libraries."""
    assert 0.9e9 < training_memory(spec(135 * 10**6, 576, "cpu", longest=128)) < 2.4e9


def test_longer_rows_larger_batches_and_pairs_take_more():
    job = spec(7 * 10**9, 4096)
    least = training_memory(job)
    assert training_memory(dataclasses.replace(job, longest=1024)) > least
    for change in ({"batch_size": 8}, {"lora_r": 64}, {"trainer": "dpo"}):
        assert training_memory(dataclasses.replace(job, request=dataclasses.replace(job.request, **change))) > least


def test_the_words_that_the_loss_weighs_at_every_token_are_counted():
    """On a CPU, with 49,152 words and a model of nothing else, a batch took 1.03 MB a token with TRL up to 4,096
    tokens, and 0.59 MB with AutoTrain."""

    def words(longest, **options):
        given = [training_memory(spec(10**8, 576, "cpu", longest, count, **options)) for count in (49152, 0)]
        return given[0] - given[1]

    assert 2.9e9 < words(725) < 3.3e9
    assert words(2000) == words(1024) == words(500, packing=True, max_length=1024)
    assert words(725, trainer="dpo") == words(1024) < words(725, trainer="orpo")
    assert 2.3e9 < words(725, backend="autotrain", max_length=1024) < 3.5e9
    large = spec(8 * 10**9, 4096, longest=1024, quantization="nf4", vocabulary=128256)
    assert 4 * GIB < training_memory(large) < 14 * GIB
