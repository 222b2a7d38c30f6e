"""Process groups: found again by anyone, and ended whatever they do with signals."""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
import time

import pytest

from llm_magics.finetuning import processes

STUBBORN = """
import os, signal, subprocess, sys, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
if len(sys.argv) < 2:
    subprocess.Popen([sys.executable, __file__, "child"])
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture
def start(tmp_path):
    groups = []

    def started(code):
        (tmp_path / "program.py").write_text(code)
        log = tmp_path / f"log{len(groups)}"
        group = processes.start([sys.executable, str(tmp_path / "program.py")], os.environ, log, tmp_path)
        groups.append(group)
        return group, log

    yield started
    for group in groups:
        processes.end(group, patience=0.1)


def wait_for(log, text, count=1):
    until = time.monotonic() + 20
    while log.read_text().count(text) < count:
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.05)


def without_its_first_process(start):
    """A group of which only the second process runs."""
    group, log = start(STUBBORN)
    wait_for(log, "up", 2)
    os.kill(group.pid, 9)
    time.sleep(0.3)
    assert processes.alive(group)
    return group


def test_a_group_that_ignores_every_signal_is_gone_after_its_end(start):
    group, log = start(STUBBORN)
    wait_for(log, "up", 2)
    assert processes.alive(group)
    processes.end(group, patience=0.3)
    assert not processes.alive(group)


def test_a_child_that_outlives_its_parent_still_counts_and_is_ended(start):
    group = without_its_first_process(start)
    processes.end(group, patience=0.1)
    assert not processes.alive(group)


def test_a_number_that_was_given_out_again_is_not_the_group(start):
    group, _ = start("import time; time.sleep(60)")
    assert processes.alive(group)
    other = processes.Group(group.pid, f"{group.born}0")
    assert not processes.alive(other)
    processes.end(other, patience=0.1)
    assert processes.alive(group)


def test_a_clock_that_is_set_changes_nothing(start, monkeypatch):
    import psutil

    group, _ = start("import time; time.sleep(60)")
    now = psutil.Process(group.pid).create_time()
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: now + 3600)
    monkeypatch.setattr(psutil, "boot_time", lambda: now - 3600)
    assert processes.alive(group)
    processes.end(group, patience=0.1)
    assert not processes.alive(group)


def test_a_group_of_another_run_of_the_machine_is_not_taken_for_one_without_its_first_process(start):
    group = without_its_first_process(start)
    before = processes.Group(group.pid, f"another-boot {group.born.split()[1]}")
    assert not processes.alive(before)
    processes.end(before, patience=0.1)
    assert processes.alive(group)


def test_one_that_ended_by_itself_is_not_alive_and_its_output_is_kept(start):
    group, log = start("print('hello')")
    assert processes.wait(group, 20)
    assert log.read_text() == "hello\n"


def test_a_group_of_another_machine_is_taken_to_run_and_nothing_here_is_ended_for_it(start):
    group, _ = start("import time; time.sleep(60)")
    assert group.host == socket.gethostname() and not processes.elsewhere(group)
    boot, birth = group.born.split()
    for other in (
        processes.Group(group.pid, f"another-boot {birth}", "another-machine"),
        processes.Group(group.pid, f"{boot} {birth}0", "another-container"),  # of one machine: one boot, other numbers
        processes.Group(2**22 + 1, group.born, "another-container"),
    ):
        assert processes.elsewhere(other) and processes.alive(other)
        assert not processes.wait(other, 0.1)
        processes.end(other, patience=0.1)
        assert processes.alive(other)
    assert processes.alive(group)


def test_a_machine_that_is_called_otherwise_now_knows_its_own_groups(start, monkeypatch):
    group, _ = start("import time; time.sleep(60)")
    monkeypatch.setattr(socket, "gethostname", lambda: "cafe-wifi")
    assert not processes.elsewhere(group) and processes.alive(group)
    processes.end(group, patience=0.1)
    monkeypatch.undo()
    assert not processes.alive(group)


def test_a_record_without_a_machine_is_of_this_one(start):
    group, _ = start("import time; time.sleep(60)")
    earlier = dataclasses.replace(group, host="")
    assert not processes.elsewhere(earlier) and processes.alive(earlier)
    gone = dataclasses.replace(earlier, born="another-boot 1")
    assert not processes.elsewhere(gone) and not processes.alive(gone)
