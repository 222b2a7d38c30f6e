"""Interrupts that come while a library is being imported wait for its end.

A large library that is broken off in the middle of its import stays half imported, and cannot be used until the kernel
is restarted: torch takes seconds, and nobody sees that it is the import that they stop.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

_IMPORT = "<frozen importlib._bootstrap>"
_LOOK = 0.05  # seconds between two looks at whether the import has ended
_MOST = 3  # the interrupt that ends whatever hangs


class _Held:
    """Holds an interrupt back while the main thread imports something, then sends it again."""

    def __init__(self) -> None:
        self._pressed = 0
        self._sent_again = self._looks = False
        self._main = threading.main_thread().ident or 0
        self.over = threading.Event()

    @property
    def waiting(self) -> bool:
        """Whether an interrupt came that was not raised yet."""
        return self._pressed > 0

    def press(self, number: int, frame: FrameType | None) -> None:
        """The handler of the signal; runs in the main thread, between any two of its instructions."""
        self._pressed += not self._sent_again
        self._sent_again = False
        if self._pressed >= _MOST or not _imports(frame):
            self._pressed = 0
            raise KeyboardInterrupt
        if not self._looks:
            self._looks = True
            threading.Thread(target=self._later, name="llm_magics interrupt", daemon=True).start()

    def _later(self) -> None:
        while self.waiting and not self.over.is_set():
            if not _imports(sys._current_frames().get(self._main)):
                self._sent_again = True
                signal.pthread_kill(self._main, signal.SIGINT)
            time.sleep(_LOOK)
        self._looks = False


def _imports(frame: FrameType | None) -> bool:
    """Whether a frame is part of an import."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT:
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def whole_imports() -> Iterator[None]:
    """Within it an interrupt leaves no library half imported; it is raised when the import has ended.

    Only where Python's own handler is in force, in the main thread: others have their reasons.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    held = _Held()
    signal.signal(signal.SIGINT, held.press)
    try:
        yield
        if held.waiting:
            raise KeyboardInterrupt
    finally:
        held.over.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
