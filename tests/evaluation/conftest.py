"""A session without a model of weights, a cache of its own, and small labelled sets."""

from __future__ import annotations

from pathlib import Path

import pytest
from labelled import sounds

from llm_magics import ScriptedEngine, Session
from llm_magics.settings import LLMMagics


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Answers are kept in an empty folder."""
    monkeypatch.setenv("LLM_MAGICS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def session() -> Session:
    """A session that embeds by words alone and says nothing."""
    return Session(LLMMagics(embedding="hashing-256"), say=lambda line: None)


@pytest.fixture
def animals(session: Session) -> ScriptedEngine:
    """A loaded model that gets all of ``ANIMALS`` right."""
    engine = ScriptedEngine(sounds)
    session.add("fake", engine)
    return engine
