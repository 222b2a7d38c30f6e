"""llama.cpp's server in this process: no port, no log, no signal handler, and gone at the end.

xllamacpp hands completions over in the process. Tokens of a text it gives only over HTTP, so the server listens on a
Unix socket in a folder that only this user can enter.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import queue
import signal
import socket
import tempfile
import threading
import weakref
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from ..errors import ModelError, ModelFileError

_LONGEST_SOCKET = 100  # characters: the system's limit for the path of a Unix socket is 104 to 108
_LOOK = 0.05  # seconds between two looks at the stop event while llama.cpp is silent
SLOTS = 8
"""Prompts that are answered at once. They share the memory for keys and values, so that one alone may take all."""
_OTHER_PROMPTS = 256  # MiB for what was read of earlier prompts, so that two notebooks' prompts may take turns


@contextlib.contextmanager
def socket_folder() -> Iterator[str]:
    """A folder for a socket, which nobody else can enter; removed at the end."""
    with _new_socket_folder() as folder:
        yield folder


def _new_socket_folder() -> tempfile.TemporaryDirectory[str]:
    long = len(tempfile.gettempdir()) > _LONGEST_SOCKET - len("/llm_magics-12345678/server.sock")
    return tempfile.TemporaryDirectory(prefix="llm_magics-", dir="/tmp" if long else None, ignore_cleanup_errors=True)


class LlamaCppServer:
    """One open model.

    Args:
        file: the ``.gguf`` file.
        context: tokens of a prompt with its answer.
        threads: that compute while the prompt is read.
        answer_threads: that compute while the answer is written.
        piece: tokens that are read at a time; between two pieces a stop frees the processor.
        gpu: None for none, -1 for all, or the number of one.

    Raises:
        ModelFileError: llama.cpp cannot open it.
    """

    def __init__(
        self, file: Path, *, context: int, threads: int, answer_threads: int, piece: int, gpu: int | None = None
    ) -> None:
        import xllamacpp

        folder = _new_socket_folder()
        self._socket = f"{folder.name}/server.sock"
        params = xllamacpp.CommonParams()
        params.model.path = str(file)
        params.hostnames = [self._socket]
        params.verbosity = -1
        params.ui = params.endpoint_slots = False
        params.endpoint_metrics = True
        params.n_threads_http = 1
        params.n_ctx = context
        params.n_parallel, params.kv_unified = SLOTS, True
        params.n_batch = params.n_ubatch = piece
        params.cpuparams.n_threads, params.cpuparams_batch.n_threads = answer_threads, threads
        params.cache_ram_mib = _OTHER_PROMPTS
        params.n_gpu_layers = 0 if gpu is None else -1
        params.fit_params = gpu is not None  # what does not fit a GPU then stays in RAM
        if gpu is not None and gpu >= 0:
            params.main_gpu = gpu
            params.split_mode = xllamacpp.llama_split_mode.LLAMA_SPLIT_MODE_NONE
        try:
            with _signal_handlers_kept():
                server = xllamacpp.Server(params)
            # Answered when it has begun to wait for work: closed before that, it waits for ever.
            server.handle_metrics()
        except RuntimeError as error:
            folder.cleanup()
            raise ModelFileError(f"{file.name} cannot be opened by llama.cpp", "Try --engine transformers") from error
        self._running = _Running(server, folder)
        # Also when the interpreter ends with the model open: llama.cpp's threads must be gone before.
        self._close = weakref.finalize(self, self._running.end)

    def tokenize(self, text: str) -> list[int]:
        """Token numbers of a text; names of special tokens in it become those tokens, and none is added."""
        connection = _UnixConnection(self._socket)
        with contextlib.closing(connection):
            body = json.dumps({"content": text, "add_special": False, "parse_special": True})
            connection.request("POST", "/tokenize", body, {"Content-Type": "application/json"})
            reply = json.loads(connection.getresponse().read())
        _raise_for_error(reply)
        return list(reply["tokens"])

    def complete(self, request: dict[str, Any], stop: threading.Event) -> Generator[dict[str, Any]]:
        """Run a completion.

        Args:
            request: as llama.cpp's server takes it.
            stop: when set, the replies end at once, and llama.cpp after the piece that it is computing.

        Yields:
            Each reply: first those that tell how much of the prompt is read, then one a token, then the last one
            with a ``finish_reason``.

        Raises:
            ModelError: llama.cpp refuses the request.
        """
        replies: queue.SimpleQueue[dict[str, Any] | BaseException | None] = queue.SimpleQueue()
        left = threading.Event()

        def take(reply: dict[str, Any]) -> bool:
            replies.put(reply)
            return left.is_set()

        self._running.start({**request, "stream": True, **_PROGRESS}, take, replies, left)
        try:
            while not stop.is_set():
                with contextlib.suppress(queue.Empty):
                    reply = replies.get(timeout=_LOOK)
                    if reply is None:
                        return
                    if isinstance(reply, BaseException):
                        raise reply
                    _raise_for_error(reply)
                    yield reply
        finally:
            left.set()

    def close(self) -> None:
        """Free the weights. Waits for the piece that is being computed."""
        self._close()


_PROGRESS = {"return_progress": True, "timings_per_token": True}


class _Running:
    """What lives as long as the model: the server, its socket's folder, and the threads that wait for it."""

    def __init__(self, server: Any, folder: tempfile.TemporaryDirectory[str]) -> None:
        self._server = server
        self._folder = folder
        self._threads: list[tuple[threading.Thread, threading.Event]] = []
        self._lock = threading.Lock()  # several rows of a table begin at once

    def start(self, request: dict[str, Any], take: Any, replies: queue.SimpleQueue[Any], left: threading.Event) -> None:
        """Run a completion in a thread of its own; ``replies`` ends with None.

        One that was left before is waited for: its slot knows most of what is asked next, and another slot, beside
        it at work, would compute the same numbers in another order.
        """
        server = self._server
        with self._lock:
            before = list(self._threads)
        for other, event in before:
            if event.is_set():
                other.join()

        def run() -> None:
            try:
                server.handle_completions(request, take)
            except BaseException as error:
                replies.put(error)
            finally:
                replies.put(None)

        thread = threading.Thread(target=run, name="llm_magics llama.cpp", daemon=True)
        with self._lock:
            thread.start()
            self._threads = [(other, event) for other, event in self._threads if other.is_alive()] + [(thread, left)]

    def end(self) -> None:
        for _, left in self._threads:
            left.set()
        for thread, _ in self._threads:
            thread.join()
        self._threads.clear()
        self._server = None  # the last reference: its destructor ends llama.cpp's own threads
        self._folder.cleanup()


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)


def _raise_for_error(reply: dict[str, Any]) -> None:
    error = reply.get("error", reply if "message" in reply and "code" in reply else None)
    if error:
        raise ModelError(f"llama.cpp refuses: {error.get('message', error)}")


@contextlib.contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """llama.cpp takes the interrupt for itself, and the notebook could stop nothing any more.

    By Python's C interface, since ``signal.signal`` works in the main thread alone.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    get, put = ctypes.pythonapi.PyOS_getsig, ctypes.pythonapi.PyOS_setsig
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.c_int]
    put.restype, put.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]
    before = [get(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            put(number, handler)
