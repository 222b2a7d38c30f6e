"""Runs a stream beside the main thread, and counts the interrupts that arrive in it.

The main thread waits and paints. Only so does an interrupt, which only reaches the main thread, end the work within
a token.
"""

from __future__ import annotations

import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from ..errors import LLMMagicsError

Piece = TypeVar("Piece")
Given = TypeVar("Given", covariant=True)

_TICK = 0.05
"""Seconds between two looks at the keyboard."""


class Stoppable(Protocol[Given]):
    """What gives pieces until it ends or is stopped."""

    def __iter__(self) -> Iterator[Given]: ...

    def stop(self) -> None:
        """End at the next piece."""


class Worker(Generic[Piece]):
    """Iterates a stream. The main thread takes the pieces from it.

    Args:
        stream: what is iterated.

    Attributes:
        pieces: what has come so far.
        done: set when the stream has ended or failed.
        error: what it raised.
    """

    def __init__(self, stream: Iterable[Piece]) -> None:
        self.pieces: list[Piece] = []
        self.done = threading.Event()
        self.error: BaseException | None = None
        self._stream = stream
        self._taken = 0
        # A daemon: a model that hangs must not keep the kernel from shutting down.
        self._thread = threading.Thread(target=self._run, name="llm_magics answer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def latest(self) -> Piece | None:
        """The last piece; None before the first."""
        return self.pieces[-1] if self.pieces else None

    def take(self) -> Sequence[Piece]:
        """The pieces since the last call."""
        new = self.pieces[self._taken :]
        self._taken += len(new)
        return new

    def reraise(self) -> None:
        """Raise here what was raised there, and keep no reference to it: its frames hold tensors."""
        error, self.error = self.error, None
        if error is None:
            return
        try:
            if isinstance(error, LLMMagicsError):
                _clear_frames(error)
            raise error
        finally:
            del error

    def _run(self) -> None:
        try:
            for piece in self._stream:
                self.pieces.append(piece)
        except BaseException as error:  # whatever it is, the main thread must hear of it
            self.error = error
        finally:
            self.done.set()


class Pace:
    """When to paint: first after some patience, then so many times a second.

    Args:
        updates_per_second: repaints a second at most.
        patience: seconds before the first.
    """

    def __init__(self, updates_per_second: float, patience: float = 0.0) -> None:
        self._interval = 1 / updates_per_second
        self._next = time.monotonic() + patience

    def due(self) -> bool:
        """Whether it is time, which it then is not for an interval."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + self._interval
        return True


class Interrupts:
    """Counts interrupts in place of raising them, so that none lands in the middle of a repaint.

    From the third on they raise, so that nothing can hold the kernel. Outside the main thread, which
    never sees a signal, it does nothing.
    """

    def __init__(self) -> None:
        self.count = 0
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._pressed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _pressed(self, number: int, frame: object) -> None:
        # Runs between any two instructions of the main thread: it must take no lock, so it only counts.
        self.count += 1
        if self.count > 2:
            raise KeyboardInterrupt


def watched(
    running: Stoppable[Piece],
    *,
    paint: Callable[[Worker[Piece]], None],
    finish: Callable[[Worker[Piece], bool], None],
    begin: Callable[[], None] = lambda: None,
) -> tuple[Worker[Piece], bool]:
    """Run something in a worker and paint until it is done.

    A first interrupt stops it and waits for its last piece, a second does not wait, a third ends whatever hangs.

    Args:
        running: it is iterated in a thread of its own, and stopped at the end, however that comes.
        paint: called about twenty times a second.
        finish: called at the end, with whether a person interrupted; no interrupt lands in it.
        begin: called before it runs.

    Returns:
        The worker, and whether a person interrupted.
    """
    worker = Worker(running)
    with Interrupts() as interrupts:
        try:
            begin()
            worker.start()
            while not worker.done.wait(_TICK) and interrupts.count < 2:
                if interrupts.count:
                    running.stop()
                paint(worker)
        except KeyboardInterrupt:  # the third, or one that did not come as a signal
            interrupts.count += 1
        finally:
            running.stop()  # whatever ended the loop, the model does not go on unseen
            finish(worker, bool(interrupts.count))
    return worker, bool(interrupts.count)


class IdleInterrupts:
    """Hears of an interrupt that comes while no cell runs. ipykernel ignores those.

    Signals are handled in the main thread, whose loop of messages waits between two cells; so there the handler is
    set and taken back. While a cell runs the interrupt is the cell's.

    Args:
        kernel: the kernel; one without a loop, as in a test, hears nothing.
        pressed: called in the main thread.
    """

    def __init__(self, kernel: Any, pressed: Callable[[], None]) -> None:
        self._loop = getattr(kernel, "io_loop", None)
        self._pressed = pressed
        self._before: Any = signal.SIG_IGN

    def watch(self) -> None:
        """From now on."""
        if self._loop is not None:
            self._loop.add_callback(self._set)

    def unwatch(self) -> None:
        """No more."""
        if self._loop is not None:
            self._loop.add_callback(self._take_back)

    def _set(self) -> None:
        if signal.getsignal(signal.SIGINT) != self._hear:
            self._before = signal.signal(signal.SIGINT, self._hear)

    def _take_back(self) -> None:
        # In an asynchronous cell the handler is the cell's, and ours comes back after it: then it has nothing to do.
        if signal.getsignal(signal.SIGINT) == self._hear:
            signal.signal(signal.SIGINT, self._before)

    def _hear(self, number: int, frame: object) -> None:
        self._pressed()
        if callable(self._before):
            self._before(number, frame)


def _clear_frames(error: BaseException | None) -> None:
    """Empty the frames behind an error that is shown in one line: IPython keeps them until the next error."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
