"""Servers for the tests: real ones in processes of their own, and one in a thread that behaves as it is told to."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from llm_magics.engines import server as server_engine
from llm_magics.engines.resolve import resolve
from llm_magics.settings import LLMMagics
from llm_magics.values.models import ModelRequest

# The end of standard input ends it, also where the tests are killed.
WATCH = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
"""
LLAMACPP_SERVER = """
import sys, threading, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.model_alias = sys.argv[1], {"smollm2"}
params.hostnames, params.port, params.n_ctx, params.n_parallel = ["127.0.0.1"], int(sys.argv[2]), 8192, 1
params.ui, params.n_gpu_layers, params.fit_params, params.n_batch = False, 0, False, 256
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
server = xllamacpp.Server(params)
threading.Event().wait()
"""
TRANSFORMERS_SERVE = """
import os
from huggingface_hub.constants import HF_HUB_CACHE
os.makedirs(HF_HUB_CACHE, exist_ok=True)  # a machine that never had a model has none, and the list of models fails
from transformers.cli.transformers import main
sys.argv = ["transformers", "serve", sys.argv[1], "--host", "127.0.0.1", "--port", sys.argv[2], "--device", "cpu"]
main()
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextlib.contextmanager
def served(script: str, model: str, log: Path) -> Iterator[str]:
    """A server in a process of its own; the address of its API."""
    port = free_port()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "passive"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", WATCH + script, model, str(port)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()
        process.stdin.close()


def on_server(address: str, settings: LLMMagics | None = None, **request: Any) -> Any:
    """An engine for a model on a server."""
    prepared = server_engine.prepare(
        resolve(address),
        ModelRequest(address, **request),
        settings=settings or LLMMagics(),
        say=lambda line: None,
    )
    return server_engine.load(prepared)


class FakeServer(ThreadingHTTPServer):
    """Speaks OpenAI's API. ``answer`` writes the reply to a chat completion.

    Attributes:
        models: what it lists.
        answer: given the handler and the request.
        other: replies to other paths, as JSON values or (status, value).
        requests: every chat completion that was asked for.
        seen: headers of every request.
        hung_up: set when a client closed its connection in the middle of an answer.
        most_at_once: the most answers that were written at the same time.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models: list[dict[str, Any]] = [{"id": "m", "object": "model", "owned_by": "me", "max_model_len": 1000}]
        self.answer: Callable[[_Handler, dict[str, Any]], None] = lambda handler, body: handler.say("Hello", " there")
        self.other: dict[str, Any] = {}
        self.requests: list[dict[str, Any]] = []
        self.seen: list[dict[str, str]] = []
        self.hung_up = threading.Event()
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def address(self) -> str:
        return f"m@http://{self.host}/v1"

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            yield
        finally:
            with self._lock:
                self._now -= 1


class _Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def do_GET(self) -> None:
        self.server.seen.append(dict(self.headers))
        path = self.path.removeprefix("/v1")
        if path in self.server.other:
            self._other(self.server.other[path])
        elif path == "/models":
            self.reply(200, {"object": "list", "data": self.server.models})
        else:
            self.reply(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append(dict(self.headers))
        path = self.path.removeprefix("/v1")
        if path in self.server.other:
            self._other(self.server.other[path])
            return
        if path != "/chat/completions":
            self.reply(404, {"detail": "Not Found"})
            return
        self.server.requests.append(body)
        try:
            with self.server.answering():
                self.server.answer(self, body)
        except (BrokenPipeError, ConnectionResetError):
            self.server.hung_up.set()

    def _other(self, value: Any) -> None:
        status, content = value if isinstance(value, tuple) else (200, value)
        self.reply(status, content)

    def reply(self, status: int, value: Any, **headers: str) -> None:
        """A whole reply, as JSON."""
        content = json.dumps(value).encode()
        self.begin(status, "application/json", Content_Length=str(len(content)), **headers)
        self.wfile.write(content)

    def begin(self, status: int = 200, kind: str = "text/event-stream", **headers: str) -> None:
        """The head of a reply."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def event(self, value: Any) -> None:
        """One event: text as it is, anything else as JSON."""
        self.wfile.write(f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode())

    def token(self, text: str, **more: Any) -> None:
        """One piece of an answer."""
        self.event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more})

    def end(self, reason: str = "stop", usage: dict[str, Any] | None = None) -> None:
        """The end of an answer."""
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        if usage:
            self.event({"choices": [], "usage": usage})
        self.event("[DONE]")

    def say(self, *pieces: str, pause: float = 0.0) -> None:
        """A whole answer as it should be."""
        self.begin()
        self.event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
        for piece in pieces:
            self.token(piece)
            time.sleep(pause)
        self.end(usage={"prompt_tokens": 7, "completion_tokens": len(pieces), "total_tokens": 7 + len(pieces)})

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on standard error."""


@contextlib.contextmanager
def fake_server() -> Iterator[FakeServer]:
    """A server on loopback, gone at the end."""
    with FakeServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
