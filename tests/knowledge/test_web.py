"""One page is fetched, and a redirect never leads inside."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from llm_magics.errors import InputError, KnowledgeError
from llm_magics.knowledge import web
from llm_magics.knowledge.loaders import load


class Pages(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self):
        self.asked.append(self.path)
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.end_headers()
            return
        self.send_response(404 if self.path == "/gone" else 200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        body = (
            b"x" * 5000
            if self.path == "/large"
            else b"<title>Pets at home</title><h1>Pets</h1><img src='/spy.png'><p>cats eat fish</p>"
        )
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    Pages.asked.clear()
    made = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


def test_a_page_is_read_and_nothing_it_links_to(server):
    (found,) = load([f"{server}/pets"]).documents
    assert "cats eat fish" in found.text and found.source == f"{server}/pets"
    assert found.title == "Pets at home"
    assert Pages.asked == ["/pets"]


def test_a_redirect_on_the_same_host_is_followed(server):
    assert b"cats" in web.fetch(f"{server}/to//pets")[0]


@pytest.mark.parametrize(
    "host", ["localhost", "127.1", "[::1]", "0.0.0.0", "10.0.0.1", "169.254.169.254", "2130706433"]
)
def test_a_redirect_into_the_local_network_is_refused(server, host):
    port = server.rpartition(":")[2]
    with pytest.raises(KnowledgeError, match=r"refused|cannot be fetched"):
        web.fetch(f"{server}/to/http://{host}:{port}/secret")
    assert "/secret" not in Pages.asked


def test_a_redirect_inside_is_followed_when_asked_for(server):
    assert b"cats" in web.fetch(f"{server}/to/{server.replace('127.0.0.1', 'localhost')}/x", private=True)[0]


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://a/b", "http://", "javascript://x", "http://[::1"])
def test_other_schemes_are_refused(address):
    with pytest.raises(InputError, match="no web address"):
        load([address])


def test_a_redirect_to_a_file_is_refused(server):
    with pytest.raises(InputError, match="no web address"):
        web.fetch(f"{server}/to/file:///etc/passwd")


def test_errors_and_loops_are_one_line(server):
    with pytest.raises(KnowledgeError, match="answered 404"):
        web.fetch(f"{server}/gone")
    with pytest.raises(KnowledgeError, match="larger than"):
        web.fetch(f"{server}/large", largest=1000)
    loaded = load([f"{server}/gone", f"{server}/pets"])
    assert len(loaded.documents) == 1 and list(loaded.skipped) == [f"{server}/gone"]
    with pytest.raises(KnowledgeError, match="cannot be fetched"):
        web.fetch("http://127.0.0.1:1/")
