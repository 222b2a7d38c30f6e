"""An interrupt while a library is imported, in a real kernel: the library is whole afterwards."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from llm_magics.display.worker import Interrupts
from llm_magics.magics.interrupts import whole_imports

jupyter_client = pytest.importorskip("jupyter_client")

SLOW = """import time
begun = True
end = time.monotonic() + 1.5
while time.monotonic() < end:
    time.sleep(0.01)
whole = True
"""


@pytest.fixture
def slow_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "slow_library.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "slow_library", raising=False)
    return "slow_library"


def press_when_it_is_imported(name: str, times: int) -> threading.Thread:
    def press() -> None:
        while not hasattr(sys.modules.get(name), "begun"):
            time.sleep(0.01)
        for _ in range(times):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            time.sleep(0.1)

    thread = threading.Thread(target=press)
    thread.start()
    return thread


@pytest.fixture(autouse=True)
def pythons_own_handler() -> Any:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("times", "whole"), [(1, True), (2, True), (3, False)])
def test_the_third_interrupt_alone_breaks_an_import_off(slow_library: str, times: int, whole: bool) -> None:
    thread = press_when_it_is_imported(slow_library, times)
    with pytest.raises(KeyboardInterrupt), whole_imports():
        __import__(slow_library)
        time.sleep(5)
    thread.join()
    assert hasattr(sys.modules.get(slow_library), "whole") == whole
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_outside_an_import_an_interrupt_is_raised_at_once() -> None:
    thread = threading.Timer(0.2, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT))
    thread.start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt), whole_imports():
        time.sleep(5)
    assert time.monotonic() - begin < 1


@pytest.mark.parametrize("times", [1, 2])
def test_whoever_counts_interrupts_after_an_import_hears_of_it_once(slow_library: str, times: int) -> None:
    thread = press_when_it_is_imported(slow_library, times)
    with whole_imports():
        __import__(slow_library)
        with Interrupts() as interrupts:
            time.sleep(0.7)
        time.sleep(0.2)
    thread.join()
    assert interrupts.count == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "llm_magics interrupt"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_import_that_ends_just_before_the_magic_does_is_interrupted_all_the_same(slow_library: str) -> None:
    thread = press_when_it_is_imported(slow_library, 1)
    with pytest.raises(KeyboardInterrupt):
        with whole_imports():
            __import__(slow_library)
        time.sleep(0.2)
    thread.join()
    assert hasattr(sys.modules[slow_library], "whole")


def test_an_interrupt_after_one_that_another_took_is_raised_once(slow_library: str) -> None:
    thread = press_when_it_is_imported(slow_library, 1)
    raised = 0
    with whole_imports():
        __import__(slow_library)
        with Interrupts():
            time.sleep(0.3)
        for _ in range(2):
            try:
                if not raised:
                    signal.raise_signal(signal.SIGINT)
                time.sleep(0.3)
            except KeyboardInterrupt:
                raised += 1
    thread.join()
    assert raised == 1


@pytest.mark.model
@pytest.mark.slow
def test_a_kernel_that_was_interrupted_while_torch_was_imported_opens_a_model_afterwards() -> None:
    manager = jupyter_client.KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.blocking_client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=60)
        press = (
            "import os, signal, sys, threading, time\n"
            "def press():\n"
            "    while 'torch' not in sys.modules: time.sleep(0.01)\n"
            "    time.sleep(0.1); half.append(not hasattr(sys.modules['torch'], 'compile'))\n"
            "    os.kill(os.getpid(), signal.SIGINT)\n"
            "half = []; threading.Thread(target=press).start()"
        )
        ask = {"user_expressions": {"half": "half"}, "timeout": 120, "store_history": True}
        client.execute_interactive(f"%load_ext llm_magics\n{press}", timeout=60)
        stopped = client.execute_interactive("%llm_load smollm2 --engine transformers", **ask)["content"]
        assert stopped["status"] == "error" and stopped["ename"] == "Interrupted"
        assert stopped["evalue"] == "stopped while opening smollm2; it is not open"
        opened = client.execute_interactive("%llm_load smollm2 --engine transformers", **ask)["content"]
        assert opened["status"] == "ok", opened["traceback"]
        assert opened["user_expressions"]["half"]["data"]["text/plain"] == "[True]"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
