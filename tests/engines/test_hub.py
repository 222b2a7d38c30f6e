"""The Hub's answers, from a server on loopback that speaks its protocol to the real client."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading

import pytest

REPLIES = {
    "meta-llama/Llama-2-7b-chat-hf": (401, {"X-Error-Code": "GatedRepo"}, {"error": "Access is restricted"}),
    "nobody/nothing": (401, {"X-Error-Code": "RepoNotFound"}, {"error": "Repository not found"}),
    "some/pickles": (200, {}, {"id": "some/pickles", "siblings": [{"rfilename": "pytorch_model.bin", "size": 9}]}),
    "some/giant": (
        200,
        {},
        {
            "id": "some/giant",
            "siblings": [{"rfilename": "model.safetensors", "size": 10**12}],
            "safetensors": {"parameters": {"BF16": 10**12}, "total": 10**12},
        },
    ),
}


class _Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, headers, body = next(
            (reply for name, reply in REPLIES.items() if f"/api/models/{name}" in self.path), (404, {}, {})
        )
        payload = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_HEAD = do_GET

    def log_message(self, *unused):
        pass


@pytest.fixture(scope="module")
def hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def load(model, tmp_path, **environment):
    """Load in a fresh process: huggingface_hub reads its environment once, at import."""
    script = f"""
from llm_magics import ModelRequest, Session
from llm_magics.errors import LLMMagicsError
try:
    Session(say=print).load(ModelRequest({model!r}))
except LLMMagicsError as error:
    print(f"{{type(error).__name__}}: {{error}}")
"""
    variables = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    variables |= {"HF_HOME": str(tmp_path), "HF_HUB_DISABLE_TELEMETRY": "1", **environment}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, env=variables)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            "llama-2-7b",
            "GatedModelError: meta-llama/Llama-2-7b-chat-hf is gated. Accept its licence at "
            "https://huggingface.co/meta-llama/Llama-2-7b-chat-hf, then type %llm_login",
        ),
        ("nobody/nothing", "ModelNotFoundError: nobody/nothing is not on the Hugging Face Hub."),
        ("some/pickles", "ModelFileError: some/pickles has no safetensors weights."),
        ("some/giant", "ModelTooLargeError: giant needs 4400.0 GB as float32, and"),
    ],
)
def test_each_answer_of_the_hub_is_one_line(hub, tmp_path, model, expected):
    secret = "hf_" + "secretsecret"
    shown, errors = load(model, tmp_path, HF_ENDPOINT=hub, HF_TOKEN=secret)
    assert shown.splitlines()[-1].startswith(expected)
    assert len(shown.splitlines()) == 1
    assert secret not in shown + errors


def test_without_a_network_a_model_that_is_not_cached_is_one_line(tmp_path):
    shown, _ = load("Qwen/Qwen3-0.6B", tmp_path, HF_HUB_OFFLINE="1")
    assert shown == (
        "ModelNotFoundError: Qwen/Qwen3-0.6B is not in the local cache, and the Hugging Face Hub cannot be reached. "
        "%llm_load smollm2 works without a network"
    )


def test_a_hub_that_nobody_answers_at_is_one_line(tmp_path):
    shown, _ = load("Qwen/Qwen3-0.6B", tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert shown.startswith("ModelNotFoundError: Qwen/Qwen3-0.6B is not in the local cache, and the Hugging Face Hub")


def test_what_is_whole_in_the_cache_opens_without_asking_the_hub(tmp_path):
    snapshot = tmp_path / "hub" / "models--some--tiny" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(b"broken")
    shown, _ = load("some/tiny", tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert "model.safetensors is damaged" in shown


def test_a_refused_download_leaves_no_weights_in_the_cache(hub, tmp_path):
    load("some/giant", tmp_path, HF_ENDPOINT=hub)
    assert not list(tmp_path.rglob("*.safetensors*"))
