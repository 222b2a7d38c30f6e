"""The events of a job, whatever killed the process that wrote them."""

from __future__ import annotations

from llm_magics.finetuning.events import FILE, EventLog, EventReader, read_events


def test_a_reader_gives_every_event_once(tmp_path):
    log, reader = EventLog(tmp_path), EventReader(tmp_path)
    assert reader.new() == []
    log.write("begin", total=2)
    (event,) = reader.new()
    assert (event.kind, event.total) == ("begin", 2) and event.time > 1.7e9
    assert reader.new() == []
    log.write("step", step=1, loss=2.5)
    log.write("step", step=2, loss=1.5)
    assert [event.loss for event in reader.new()] == [2.5, 1.5]


def test_a_line_that_is_not_finished_waits_and_one_that_never_will_be_is_passed_over(tmp_path):
    log, reader = EventLog(tmp_path), EventReader(tmp_path)
    log.write("step", step=1)
    with (tmp_path / FILE).open("a") as file:
        file.write('{"kind": "step", "st')
    assert [event.step for event in reader.new()] == [1]
    log.write("step", step=2)
    assert [event.step for event in reader.new()] == [2]
    assert [event.step for event in read_events(tmp_path)] == [1, 2]


def test_steps_that_were_lost_and_done_again_are_there_once(tmp_path):
    log = EventLog(tmp_path)
    log.write("begin", step=0)
    for step in (1, 2, 3):
        log.write("step", step=step, loss=1.0)
    log.write("begin", step=2)
    log.write("step", step=3, loss=0.5)
    steps = [(event.step, event.loss) for event in read_events(tmp_path) if event.kind == "step"]
    assert steps == [(1, 1.0), (2, 1.0), (3, 0.5)]


def test_a_silent_log_writes_nothing(tmp_path):
    EventLog(tmp_path, silent=True).write("step")
    assert not (tmp_path / FILE).exists()
