"""Settings: one class, four places, the last one wins.

1. the defaults below;
2. ``[tool.llm_magics]`` in the nearest ``pyproject.toml`` upwards from the working folder;
3. the environment: ``LLM_MAGICS_TEMPERATURE=0.7`` and so on;
4. ``%config LLMMagics.temperature = 0.7``, ``c.LLMMagics.temperature`` in IPython's configuration,
   or ``%llm_config temperature=0.7``.

A name that does not exist and a value out of range are errors that say what was meant.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import traitlets
from traitlets.config import Config, Configurable

from .errors import SettingsError, did_you_mean

ENVIRONMENT_PREFIX = "LLM_MAGICS_"
JOBS_FOLDER = "finetuned"
"""Where fine-tuning jobs lie, in the working folder: a folder each. No setting, so that a job is always found again."""


class LLMMagics(Configurable):
    """Settings of the magics. The class has the name that ``%config`` shows."""

    default_model = traitlets.Unicode("smollm2", help="Model that opens when a cell asks and none is loaded.").tag(
        config=True
    )
    embedding = traitlets.Unicode(
        "all-MiniLM-L6-v2", help="Sentence embedding model of new knowledge bases and of --select similar."
    ).tag(config=True)
    knowledge_folder = traitlets.Unicode(
        "", help="Folder in which knowledge bases live on for the next kernel; empty keeps them in memory."
    ).tag(config=True)
    system = traitlets.Unicode("", help="System message of every prompt that has none of its own.").tag(config=True)
    temperature = traitlets.Float(0.1, min=0.0, max=2.0, help="Default of --temperature; 0 is greedy.").tag(config=True)
    top_p = traitlets.Float(1.0, min=0.0, max=1.0, help="Default of --top-p.").tag(config=True)
    max_new_tokens = traitlets.Int(500, min=1, help="Default of --max-new-tokens.").tag(config=True)
    repetition_penalty = traitlets.Float(1.1, min=0.01, help="Default of --repetition-penalty of %%llm.").tag(
        config=True
    )
    seed = traitlets.Int(None, allow_none=True, min=0, help="Default of --seed; None draws one each time.").tag(
        config=True
    )
    format = traitlets.Enum(
        ("markdown", "text", "json", "code"), "markdown", help="Default of --format: how an answer is shown."
    ).tag(config=True)
    history_turns = traitlets.Int(20, min=0, help="Earlier exchanges of this notebook that %%llm sends along.").tag(
        config=True
    )
    prefix_cache_bytes = traitlets.Int(
        2**30,
        min=0,
        help="Memory in which each model of the transformers engine keeps what it has read of earlier prompts.",
    ).tag(config=True)
    updates_per_second = traitlets.Float(10.0, min=0.5, max=30.0, help="How often a running answer is repainted.").tag(
        config=True
    )
    server_connect_timeout = traitlets.Float(10.0, min=0.1, help="Seconds in which a server must be reached.").tag(
        config=True
    )
    server_first_token_timeout = traitlets.Float(
        600.0, min=0.1, help="Seconds in which a server must send the first token; it may have to load the model."
    ).tag(config=True)
    server_token_timeout = traitlets.Float(
        60.0, min=0.1, help="Seconds in which a server must send each token after the first, and any other reply."
    ).tag(config=True)
    server_concurrency = traitlets.Int(16, min=1, help="Prompts that a server is given at once by --over.").tag(
        config=True
    )
    prefix = traitlets.Unicode("", help="Put before every magic's name, for example my_ for %%my_llm.").tag(config=True)

    @traitlets.validate("prefix")
    def _prefix_is_a_name(self, proposal: Any) -> str:
        value = str(proposal["value"])
        if value and not value.isidentifier():
            raise traitlets.TraitError(f"{value!r} cannot begin a name; letters, digits and _ can")
        return value

    @traitlets.validate(
        "temperature",
        "top_p",
        "repetition_penalty",
        "updates_per_second",
        "server_connect_timeout",
        "server_first_token_timeout",
        "server_token_timeout",
    )
    def _number_is_usable(self, proposal: Any) -> float:
        value, trait = float(proposal["value"]), proposal["trait"]
        if not math.isfinite(value) or (trait.name == "top_p" and not value):
            raise traitlets.TraitError(f"{trait.name} cannot be {value}")
        return value

    @classmethod
    def names(cls) -> list[str]:
        """The names of all settings, in alphabetical order."""
        return sorted(cls.class_trait_names(config=True))

    def change_all(self, values: Mapping[str, object]) -> None:
        """Change several settings, or none of them where one cannot be.

        Raises:
            SettingsError: as ``change``; everything is then as it was.
        """
        before = {name: getattr(self, name) for name in values if name in self.names()}
        try:
            for name, value in values.items():
                self.change(name, value)
        except SettingsError:
            for name, value in before.items():
                self.set_trait(name, value)
            raise

    def change(self, name: str, value: object) -> None:
        """Give one setting a new value.

        Args:
            name: the setting.
            value: the value, or its text as typed or found in the environment.

        Raises:
            SettingsError: no such setting (the nearest is named), or a value it cannot have.
        """
        trait = self.traits(config=True).get(name)
        if trait is None:
            raise SettingsError(
                f"there is no setting {name}",
                did_you_mean(name, self.names()) or "%llm_config shows them all",
            )
        try:
            self.set_trait(name, trait.from_string(value) if isinstance(value, str) else value)
        except (traitlets.TraitError, ValueError) as error:
            raise SettingsError(f"{name} cannot be {value!r}", _takes(trait)) from error


def _takes(trait: Any) -> str:
    """What may be typed for a setting."""
    if isinstance(trait, traitlets.Enum):
        return "It takes " + ", ".join(trait.values or ())
    if not isinstance(trait, traitlets.Int | traitlets.Float):
        return str(trait.help)
    kind = "a whole number" if isinstance(trait, traitlets.Int) else "a number"
    least = "above 0" if trait.name == "top_p" else f"from {trait.min:g}"
    most = "" if trait.max in (None, math.inf) else f" to {trait.max:g}"
    return f"It takes {kind} {least}{most}" + (", or None" if trait.allow_none else "")


def load_settings(
    config: Config | None = None,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> LLMMagics:
    """Settings from every place, the last one winning.

    Args:
        config: IPython's configuration, with or without a section ``LLMMagics``.
        folder: where the search for ``pyproject.toml`` begins; the working folder unless given.
        environment: ``os.environ`` unless given.

    Raises:
        SettingsError: names the place as well as the setting.
    """
    settings = LLMMagics()
    places = [
        *_project_places(folder or Path.cwd()),
        ("the environment", _from_environment(os.environ if environment is None else environment)),
        ("IPython's configuration", dict(config.get("LLMMagics", {}) if config else {})),
    ]
    for place, values in places:
        for name, value in values.items():
            try:
                settings.change(name, value)
            except SettingsError as error:
                raise SettingsError(f"in {place}: {error.message}", error.hint) from error
    return settings


def _project_places(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    for parent in (folder, *folder.parents):
        file = parent / "pyproject.toml"
        if file.is_file():
            import tomllib

            try:
                found = tomllib.loads(file.read_text(encoding="utf-8"))
            except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
                raise SettingsError(f"{file} cannot be read: {error}") from error
            table = found.get("tool", {}).get("llm_magics", {})
            if not isinstance(table, Mapping):
                raise SettingsError(f"in {file}: llm_magics is {table!r}", "Write a table, [tool.llm_magics]")
            return [(str(file), dict(table))]
    return []


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Only names that are settings: other programs may use the same prefix for variables of their own."""
    found = {name: environment.get(ENVIRONMENT_PREFIX + name.upper()) for name in LLMMagics.names()}
    return {name: value for name, value in found.items() if value is not None}
