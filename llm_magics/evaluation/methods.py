"""Names of ways to ask, such as ``rag+fewshot:4``: what a person types after ``--methods``.

    METHOD = PART ("+" PART)*          PART = NAME (":" OPTION)*          OPTION = VALUE | NAME "=" VALUE

``llm``, ``fewshot``, ``cot`` and ``rag`` add up; the name of a loaded model is a part too. ``majority`` and
``neighbours`` need no model and stand alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ..errors import InputError, did_you_mean
from ..prompts.choices import DECISIONS
from ..prompts.cot import STRATEGIES
from ..prompts.examples import SELECTIONS
from ..values.knowledge import SEARCHES

BASELINES = ("majority", "neighbours")
"""``majority``: the most frequent label. ``neighbours``: the label of the nearest examples by sentence embedding."""

ASKING = ("llm", "fewshot", "cot", "rag")
"""The ways to ask a model."""

# Options of each part: the words that a value may be, or None for a whole number from 1.
_OPTIONS: Mapping[str, Mapping[str, Collection[str] | None]] = {
    "llm": {"answer": ("text",)},
    "fewshot": {"k": None, "select": SELECTIONS, "decide": DECISIONS, "answer": ("text",)},
    "cot": {"votes": None, "strategy": STRATEGIES},
    "rag": {"k": None, "search": SEARCHES, "answer": ("text",)},
    "majority": {},
    "neighbours": {"k": None},
}


@dataclass(frozen=True, slots=True)
class Method:
    """One way to ask.

    Attributes:
        name: as a person reads it; two methods that do the same have one name.
        parts: what it is made of, each with its options.
        model: name of a loaded model; empty for the one that answers where none is named.
    """

    name: str
    parts: Mapping[str, Mapping[str, str]]
    model: str = ""

    @property
    def baseline(self) -> bool:
        """Whether no language model is asked."""
        return next(iter(self.parts)) in BASELINES

    @property
    def needs_examples(self) -> bool:
        """Whether it needs worked examples."""
        return self.baseline or "fewshot" in self.parts

    @property
    def free(self) -> bool:
        """Whether the answer to a classification is free text: reasoned, or asked for with ``:text``."""
        return "cot" in self.parts or any("answer" in options for options in self.parts.values())

    def number(self, part: str, option: str, default: int) -> int:
        """A whole number among the options of a part."""
        return int(self.parts.get(part, {}).get(option, default))

    def option(self, part: str, option: str, default: str = "") -> str:
        """An option of a part."""
        return self.parts.get(part, {}).get(option, default)


def read_methods(texts: Sequence[str], models: Collection[str]) -> tuple[Method, ...]:
    """Read what stands after ``--methods``.

    Args:
        texts: the methods as typed.
        models: names of the loaded models.

    Raises:
        InputError: none, one that is unknown, or one twice; the nearest name is offered.
    """
    if not texts:
        raise InputError("--methods is empty", "Type --methods llm,fewshot:4")
    methods: list[Method] = []
    for text in texts:
        method = read_method(text, models)
        if any(other.name == method.name for other in methods):
            raise InputError(f"--methods has {method.name} twice", "Leave one of them out")
        methods.append(method)
    return tuple(methods)


def read_method(text: str, models: Collection[str]) -> Method:
    """Read one method; see ``read_methods``."""
    parts: dict[str, Mapping[str, str]] = {}
    model = ""
    for part in _pieces(text.strip(), models):
        if part in models and part not in _OPTIONS:
            if model:
                raise InputError(f"{text} names two models, {model} and {part}", "Make two methods of it, with a comma")
            model = part
            continue
        name, _, options = part.partition(":")
        if name not in _OPTIONS:
            raise _unknown(name, text, models)
        if name in parts:
            raise InputError(f"{text} has {name} twice", "Leave one of them out")
        parts[name] = _read_options(name, options, text)
    parts = parts or {"llm": {}}
    _check(text, parts, model)
    return Method(_name(parts, model), parts, model)


def with_model(method: Method, model: str) -> Method:
    """The same method with a model."""
    return dataclasses.replace(method, model=model, name=_name(method.parts, model))


def _pieces(text: str, models: Collection[str]) -> list[str]:
    """The parts; a model's own name may hold a plus or a colon."""
    named = next((name for name in sorted(models, key=len, reverse=True) if f"+{name}+" in f"+{text}+"), None)
    if named is None or named in _OPTIONS:
        return [part.strip() for part in text.split("+")]
    before, _, after = f"+{text}+".partition(f"+{named}+")
    return [*[part for part in before.split("+") if part], named, *[part for part in after.split("+") if part]]


def _read_options(name: str, text: str, method: str) -> dict[str, str]:
    known = _OPTIONS[name]
    found: dict[str, str] = {}
    for option in text.split(":") if text else []:
        key, equals, value = option.partition("=")
        if not equals:
            value = option
            key = next((k for k, words in known.items() if (value in words if words else value.isdigit())), "")
        words = known.get(key, ())
        good = value.isdecimal() and int(value) > 0 if words is None else value in words
        if not good:
            takes = " or ".join(
                f"{name}:{key}={'4' if words is None else '|'.join(words)}" for key, words in known.items()
            )
            hint = did_you_mean(option, [*known, *(word for words in known.values() if words for word in words)])
            raise InputError(
                f"{method}: {name} takes no {option!r}", f"{hint} It takes {takes or 'no options'}".strip()
            )
        found[key] = str(int(value)) if words is None else value
    return {key: found[key] for key in known if key in found}


def _check(text: str, parts: Mapping[str, Mapping[str, str]], model: str) -> None:
    baseline = next((name for name in parts if name in BASELINES), "")
    if baseline and (len(parts) > 1 or model):
        raise InputError(f"{text}: {baseline} asks no model and stands alone", f"Type --methods {baseline}")
    if "llm" in parts and len(parts) > 1:
        others = "+".join(part for part in parts if part != "llm")
        raise InputError(f"{text}: llm is the plain question", f"Type {others}")
    if "rag" in parts and "votes" in parts.get("cot", {}):
        raise InputError(f"{text}: rag+cot takes no votes", "Type rag+cot, or cot:votes=5 alone")
    if "cot" in parts and any("answer" in options for options in parts.values()):
        raise InputError(f"{text}: a chain of thought is free text anyway", "Leave :text out")


def _name(parts: Mapping[str, Mapping[str, str]], model: str) -> str:
    plain = model and list(parts) == ["llm"] and not parts["llm"]
    written = [] if plain else [_written(*part) for part in parts.items()]
    return "+".join([*([model] if model else []), *written])


def _written(name: str, options: Mapping[str, str]) -> str:
    """``fewshot:4:similar``: numbers and words stand alone where they can be read in one way."""
    alone = {"k", "select", "decide", "answer", "search", "strategy"}
    return ":".join([name, *(value if key in alone else f"{key}={value}" for key, value in options.items())])


def _unknown(name: str, text: str, models: Collection[str]) -> InputError:
    known = [*_OPTIONS, *models]
    loaded = f", or a loaded model: {', '.join(models)}" if models else ""
    hint = did_you_mean(name, known) or f"It takes {', '.join(_OPTIONS)}{loaded}"
    where = "" if name == text else f" in {text}"
    return InputError(f"there is no method {name!r}{where}", hint)
