"""What a model keeps of earlier prompts is shown, and bounded by a setting."""

from __future__ import annotations

from typing import Any

from llm_magics import ScriptedEngine


class Keeping(ScriptedEngine):
    """A model that keeps 48 MB, or what it is allowed to."""

    limit = 10**12

    def cached_bytes(self) -> int:
        return min(self.limit, 48_000_000)

    def limit_cache(self, limit: int) -> None:
        self.limit = limit


def test_the_table_of_models_tells_what_they_keep_of_earlier_prompts(notebook: Any) -> None:
    notebook.session.add("plain", ScriptedEngine(["yes"]))
    notebook.session.add("keeping", Keeping(["yes"]))
    heads, keeping, plain = notebook.good("%llm_load").printed.splitlines()[1:4]
    assert heads.split()[-3:] == ["memory", "cached", "context"]
    place = heads.index("cached")
    assert (keeping[place : place + 6].strip(), plain[place : place + 6].strip()) == ("48 MB", "")


def test_the_setting_bounds_it_before_and_after_a_model_is_opened(notebook: Any) -> None:
    notebook.session.add("first", Keeping(["yes"]))
    notebook.good("%llm_config prefix_cache_bytes=1000000")
    notebook.session.add("second", Keeping(["yes"]))
    assert [info.cached for info in notebook.session.models] == [10**6, 10**6]
    assert "It takes a whole number from 0" in notebook.run("%llm_config prefix_cache_bytes=-1").complaint
