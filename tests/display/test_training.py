"""The card of a fine-tuning job, from its events alone."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser

import pytest

from llm_magics.display.training import (
    data_html,
    data_text,
    figures,
    loss_curve,
    progress_line,
    training_html,
    training_text,
    tried_text,
)
from llm_magics.values.training import TrainingData, TrainingEvent, TrainingRun, TriedOut

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def job(steps, state="running", *, total=24, valid=(), text="", name="facts", start=0, tokens=100):
    events = [TrainingEvent("start", 1000.0), TrainingEvent("begin", 1010.0, step=start, total=total)]
    for number in range(start + 1, start + steps + 1):
        events.append(
            TrainingEvent("step", 1010.0 + 2 * (number - start), step=number, total=total, epoch=number / 16,
                          loss=4 / number, learning_rate=1e-3, tokens=tokens * (number - start), memory=2 * 10**9)
        )  # fmt: skip
        if number in valid:
            events.append(TrainingEvent("eval", 1011.0 + 2 * number, step=number, total=total, valid_loss=0.5))
    return TrainingRun(name, state, "smollm2", "/jobs/facts", "sft", "trl", tuple(events), text=text)


def words(html):
    """What a viewer without style sheet shows."""

    class Reader(HTMLParser):
        said, inside = "", ""

        def handle_starttag(self, tag, attributes):
            self.inside = tag

        def handle_data(self, data):
            if self.inside != "style":
                self.said += f" {data}"

    reader = Reader()
    reader.feed(html)
    return " ".join(reader.said.split())


def test_a_running_job_says_step_loss_speed_time_left_and_memory():
    assert figures(job(6)) == [
        "step 6 of 24", "epoch 0.38", "loss 0.667", "rate 0.001", "50 tok/s", "36 s left", "2.0 GB",
    ]  # fmt: skip
    assert progress_line(job(6)).startswith("facts · step 6 of 24")


def test_before_the_first_step_it_says_what_is_going_on():
    run = job(0)
    phase = TrainingEvent("phase", 1005.0, text="opening the base")
    loading = TrainingRun("facts", "running", "smollm2", "/jobs", "sft", "trl", (*run.events[:1], phase))
    assert figures(loading) == ["opening the base"]
    assert figures(TrainingRun("facts", "running", "smollm2", "/jobs", "sft", "trl")) == ["starting"]
    assert "opening the base" in words(training_html(loading))


def test_a_resumed_job_counts_speed_and_time_of_its_new_process():
    assert {"step 14 of 24", "50 tok/s", "20 s left"} <= set(figures(job(4, start=10)))


def test_the_card_reads_without_its_style_sheet():
    said = words(training_html(job(24, "done", valid=(8, 16, 24))))
    assert "%llm_finetune · facts on smollm2 · done" in said
    assert "24 of 24 steps" in said
    assert re.search(r"step loss validation 1 4 7 0.571 .*24 0.167 0.5", said)
    assert "Loss from 4 at step 1 to 0.167 at step 24" in said


def test_the_curve_falls_from_left_to_right_and_has_a_line_for_validation():
    curve = loss_curve(job(24, "done", valid=(8, 16, 24)))
    lines = re.findall(r'<polyline points="([^"]+)"[^>]*style="([^"]*)"', curve)
    assert len(lines) == 3
    assert "dasharray" in lines[2][1]
    points = [tuple(map(float, point.split(","))) for point in lines[0][0].split()]
    assert len(points) == 24
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(points))
    assert len(re.findall(r"<polyline [^>]*style", loss_curve(job(24)))) == 2
    assert loss_curve(job(1)) == ""


def right_end(curve):
    return int(re.findall(r'text-anchor="end"[^>]*>(\d+)</text>', curve)[-1])


def test_the_curve_fills_at_least_half_of_its_width_however_long_the_job_is():
    assert [right_end(loss_curve(job(steps, total=4000))) for steps in (2, 16, 17, 700)] == [16, 16, 32, 1024]
    assert right_end(loss_curve(job(20, total=24))) == 24 and right_end(loss_curve(job(3, total=4))) == 4
    assert right_end(loss_curve(job(10, "stopped", total=4000, text="stopped"))) == 10


@pytest.mark.parametrize("said", [training_text, lambda run: words(training_html(run))])
def test_a_stopped_job_says_how_it_goes_on_and_not_twice_that_it_stopped(said):
    shown = said(job(10, "stopped", text="stopped"))
    assert "%llm_finetune facts --resume goes on from here" in shown and "stopped; %" not in shown
    late = said(job(10, "stopped", text="stopped: no notebook has watched it for 60 seconds"))
    assert "60 seconds; %llm_finetune facts --resume goes on from here" in late
    assert "--resume" not in said(job(24, "done"))


def test_a_long_job_sends_no_more_points_than_a_screen_shows():
    curve = loss_curve(job(5000, total=5000))
    assert len(curve) < 8000
    assert max(len(points.split()) for points in re.findall(r'points="([^"]+)"', curve)) <= 201


def test_a_loss_that_is_no_number_breaks_nothing():
    run = job(3)
    broken = TrainingEvent("step", 1030.0, step=4, total=24, loss=float("nan"), tokens=400)
    run = TrainingRun("facts", "failed", "smollm2", "/jobs", "sft", "trl", (*run.events, broken), text="it diverged")
    assert "nan" not in loss_curve(run)
    assert "not a number" in words(training_html(run)) and "it diverged" in words(training_html(run))


@pytest.mark.parametrize("state", ["running", "done", "stopped", "failed", "killed"])
def test_nothing_from_outside_becomes_html(state):
    html = training_html(job(4, state, name=HOSTILE, text=HOSTILE))
    assert "<script" not in html and "<img" not in html
    data = TrainingData(HOSTILE, HOSTILE, 2, 0, 0, 9, 3, 5, ((HOSTILE, 1),), ((HOSTILE, True),), 3, 9.0, (HOSTILE,))
    assert "<script" not in data_html(data) and "<img" not in data_html(data)


def test_plain_text_holds_the_figures_and_the_losses():
    text = training_text(job(24, "stopped", valid=(8,), text="stopped"))
    assert text.splitlines()[0].startswith("facts on smollm2 · stopped · step 24 of 24")
    assert "step 24: loss 0.167, validation 0.5" in text


def test_what_was_understood_is_told_with_the_answer_in_bold():
    data = TrainingData(
        "facts.csv", "prompt and completion", 64, 4, 8, 3400, 900, 61, (("duplicate", 2), ("empty", 1)),
        (("user: Who?\nassistant: ", False), ("Me.</s>", True)), 16, 130.0,
        ("16 optimizer steps hardly change a model",),
    )  # fmt: skip
    said = words(data_html(data))
    assert "64, 8 of them from --mix, 4 more held out" in said
    assert "2 duplicate, 1 empty" in said and "about 2 min" in said and "hardly change" in said
    assert "assistant: <b>Me.&lt;/s&gt;</b>" in data_html(data)
    assert "Warning: 16 optimizer steps" in data_text(data) and "read as: prompt and completion" in data_text(data)


@pytest.mark.parametrize(
    ("own", "others", "said"),
    [
        ("right", "right", []),
        ("wrong", "right", ["none of the rows is known yet: take more --epochs; held-out rows"]),
        ("right", "wrong", ["it has forgotten what its base knew: take fewer --epochs, a smaller --lr, or more rows"]),
    ],
)
def test_what_was_not_learned_or_was_forgotten_is_told_with_what_to_change(own, others, said):
    tried = [TriedOut("held out", f"Who is {n}?", "right", "wrong", own) for n in range(3)]
    tried += [TriedOut("unrelated", f"What is {n}?", "right", "right", others) for n in range(2)]
    text = tried_text(job(4), tried)
    assert all(line in text for line in said)
    assert ("known yet" in text, "forgotten" in text) == (own == "wrong", others == "wrong")
    assert "held out: 0 of 3 right before" in text and "asked with -t 0 --repetition-penalty 1" in text
