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
    """Holds interrupts back while the main thread imports something, then sends one again."""

    def __init__(self) -> None:
        self._pressed = 0  # held back
        self._sent = 0  # how many the one stands for that was sent again, until it has arrived
        self._looks = False
        self._main = threading.main_thread().ident or 0
        # A handler may run within a handler. Besides only the thread that looks holds it, as long as a look takes.
        self._lock = threading.RLock()
        self.over = False

    @property
    def waiting(self) -> bool:
        """Whether an interrupt came that was neither raised nor sent again."""
        return self._pressed > 0

    def press(self, number: int, frame: FrameType | None) -> None:
        """The handler of the signal; runs in the main thread, between any two of its instructions."""
        with self._lock:
            self._pressed += self._sent or 1
            self._sent = 0
            if self.over:
                return
            if self._pressed >= _MOST or not _imports(frame):
                self._pressed = 0
                raise KeyboardInterrupt
            if not self._looks:
                self._looks = True
                threading.Thread(target=self._later, name="llm_magics interrupt", daemon=True).start()

    def _later(self) -> None:
        while not self._send_again():
            time.sleep(_LOOK)

    def _send_again(self) -> bool:
        """Send what is held back, once, where the import has ended. Returns whether there is nothing to wait for.

        Not more than once: by then the handler may be another's, who counts, and this one never hears of it.
        """
        with self._lock:
            if self._pressed and not self.over:
                if _imports(sys._current_frames().get(self._main)):
                    return False
                self._sent, self._pressed = self._pressed, 0
                signal.pthread_kill(self._main, signal.SIGINT)
            self._looks = False
            return True


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
    finally:
        held.over = True  # from here on it raises nothing, or the line below might not be reached
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if held.waiting:
        raise KeyboardInterrupt
