"""Settings: four places, the last one wins, and a mistake says what was meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from llm_magics.errors import SettingsError
from llm_magics.settings import LLMMagics, load_settings


def project(folder: Path, text: str) -> Path:
    (folder / "pyproject.toml").write_text(f"[tool.llm_magics]\n{text}\n", encoding="utf-8")
    return folder


def test_each_place_overrules_the_one_before_it(tmp_path: Path) -> None:
    project(tmp_path, "temperature = 0.2\ntop_p = 0.3\nmax_new_tokens = 4")
    environment = {"LLM_MAGICS_TOP_P": "0.5", "LLM_MAGICS_MAX_NEW_TOKENS": "6", "LLM_MAGICS_CACHE": "/x"}
    config = Config({"LLMMagics": {"max_new_tokens": 7}})
    settings = load_settings(config, tmp_path, environment)
    assert (settings.temperature, settings.top_p, settings.max_new_tokens) == (0.2, 0.5, 7)
    assert settings.repetition_penalty == 1.1


def test_the_nearest_pyproject_upwards_counts(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    project(tmp_path, "temperature = 0.2")
    assert load_settings(folder=inner, environment={}).temperature == 0.2
    project(tmp_path / "a", "temperature = 0.4")
    assert load_settings(folder=inner, environment={}).temperature == 0.4


def test_the_notebook_takes_them_from_everywhere(open_notebook: Any, tmp_path: Path, monkeypatch: Any) -> None:
    project(tmp_path, 'system = "From the project."\ntemperature = 0.2\nseed = 5')
    monkeypatch.setenv("LLM_MAGICS_TEMPERATURE", "0.4")
    notebook = open_notebook(LLMMagics={"max_new_tokens": 1})
    notebook.answers("one two")
    answer = notebook.good("%llm hi").value
    assert answer.messages[0].content == "From the project."
    assert (answer.options.temperature, answer.options.max_new_tokens, answer.options.seed) == (0.4, 1, 5)
    notebook.good("%llm_config temperature=0.6")
    notebook.good("%config LLMMagics.max_new_tokens = 2")
    answer = notebook.good("%llm hi").value
    assert (answer.options.temperature, answer.options.max_new_tokens) == (0.6, 2)
    assert notebook.good("%llm -t 0.9 hi").value.options.temperature == 0.9


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("temprature", "0.7", "there is no setting temprature. Did you mean temperature?"),
        ("xyzzy", "1", "there is no setting xyzzy. %llm_config shows them all"),
        ("temperature", "hot", "temperature cannot be 'hot'. It takes a number from 0 to 2"),
        ("temperature", "-1", "temperature cannot be '-1'. It takes a number from 0 to 2"),
        ("temperature", "nan", "temperature cannot be 'nan'. It takes a number from 0 to 2"),
        ("top_p", "0", "top_p cannot be '0'. It takes a number above 0 to 1"),
        ("top_p", "1.1", "top_p cannot be '1.1'. It takes a number above 0 to 1"),
        ("repetition_penalty", "inf", "repetition_penalty cannot be 'inf'. It takes a number from 0.01"),
        ("max_new_tokens", "0", "max_new_tokens cannot be '0'. It takes a whole number from 1"),
        ("max_new_tokens", "2.5", "max_new_tokens cannot be '2.5'. It takes a whole number from 1"),
        ("seed", "-1", "seed cannot be '-1'. It takes a whole number from 0, or None"),
        ("format", "yaml", "format cannot be 'yaml'. It takes markdown, text, json, code"),
        ("prefix", "1a", "prefix cannot be '1a'."),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(notebook: Any, name: str, value: str, said: str) -> None:
    before = notebook.session.settings.trait_values()
    assert said in notebook.run(f"%llm_config {name}={value}").complaint
    assert notebook.session.settings.trait_values() == before
    notebook.answers("hello")
    assert notebook.good("%llm hi").value == "hello"


def test_a_setting_without_a_value_is_shown(notebook: Any) -> None:
    printed = notebook.good("%llm_config temperature").printed
    assert "temperature  0.1" in printed and "top_p" not in printed


def test_a_change_without_a_value_says_how_to_give_one(notebook: Any) -> None:
    line = notebook.run("%llm_config temperature seed").complaint
    assert "temperature gives no value. Type %llm_config temperature=VALUE" in line


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("project", "pyproject.toml: there is no setting temprature. Did you mean temperature?"),
        ("table", "pyproject.toml: llm_magics is 3. Write a table, [tool.llm_magics]"),
        ("broken", "pyproject.toml cannot be read: "),
        ("environment", "in the environment: temperature cannot be 'hot'. It takes a number from 0 to 2"),
        ("config", "in IPython's configuration: there is no setting temprature. Did you mean temperature?"),
    ],
)
def test_a_mistake_names_its_place_when_the_extension_loads(
    open_notebook: Any, tmp_path: Path, monkeypatch: Any, place: str, said: str
) -> None:
    sections: dict[str, Any] = {}
    if place == "environment":
        monkeypatch.setenv("LLM_MAGICS_TEMPERATURE", "hot")
    elif place == "config":
        sections = {"LLMMagics": {"temprature": 1}}
    else:
        texts = {"project": "[tool.llm_magics]\ntemprature = 1", "table": "[tool]\nllm_magics = 3", "broken": "[tool"}
        (tmp_path / "pyproject.toml").write_text(texts[place])
    notebook = open_notebook(load=False, **sections)
    ran = notebook.run("%load_ext llm_magics")
    assert isinstance(ran.error, SettingsError)
    assert said in str(ran.error) and ran.printed.strip() == ran.error._render_traceback_()[0]


def test_config_is_ipythons_own_and_validated(notebook: Any) -> None:
    assert "LLMMagics.temperature=<Float>" in notebook.good("%config LLMMagics").printed
    notebook.run("%config LLMMagics.temperature = -3")
    assert notebook.session.settings.temperature == 0.1
    notebook.good("%config LLMMagics.temperature = 0.3")
    assert notebook.session.settings.temperature == 0.3
    with pytest.warns(UserWarning, match="Did you mean `temperature`"):
        notebook.shell.run_line_magic("config", "LLMMagics.temprature = 3")


def test_llm_config_shows_every_setting_with_its_value_and_meaning(notebook: Any) -> None:
    printed = notebook.good("%llm_config").printed
    assert all(name in printed for name in LLMMagics.names())
    assert "0.1" in printed and "Default of --temperature; 0 is greedy." in printed
    changed = notebook.good('%llm_config temperature=0.7 "system=Be brief."').printed
    assert "0.7" in changed and "'Be brief.'" in changed and "max_new_tokens" not in changed
    assert notebook.session.settings.system == "Be brief."
    notebook.good("%llm_config seed=3")
    notebook.good("%llm_config seed=None")
    assert notebook.session.settings.seed is None
