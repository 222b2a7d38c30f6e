"""``%llm_login`` leaves the token to huggingface_hub, and shows it nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from llm_magics.errors import InputError, ModelError

TOKEN = "hf_" + "abcdefghij"


def test_a_token_on_the_line_is_refused_and_not_repeated(notebook: Any) -> None:
    ran = notebook.run(f"%llm_login {TOKEN}")
    assert isinstance(ran.error, InputError)
    assert "Type %llm_login alone" in ran.complaint
    assert TOKEN not in ran.complaint
    assert len(notebook.session.history) == 0


def test_the_login_is_the_hubs_own(notebook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    calls = []
    monkeypatch.setattr(huggingface_hub, "login", lambda **options: calls.append(options))
    assert notebook.good("%llm_login").printed == ""
    assert calls == [{"skip_if_logged_in": False}]


def test_a_login_that_does_not_work_is_one_line_without_the_token(
    notebook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def refused(**options: object) -> None:
        raise ValueError(f"Invalid token passed: {TOKEN}")

    monkeypatch.setattr(huggingface_hub, "login", refused)
    ran = notebook.run("%llm_login")
    assert isinstance(ran.error, ModelError)
    assert "the login did not work (ValueError). Try again with a network" in ran.complaint
    assert TOKEN not in ran.printed
