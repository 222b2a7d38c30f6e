"""Holds the layer table of the design: who may import whom, and what may be imported when."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "llm_magics"

VALUES = {"values", "errors", "settings", "aliases", "history", "cache_folders", "citations", "quiet"}
LOWER = VALUES | {"prompts", "evaluation", "engines", "knowledge", "finetuning"}
SCORING = VALUES | {"prompts", "evaluation", "engines.base"}

# Part of the package -> parts that it may import. The longest name that fits a module counts.
MAY_IMPORT = {
    "": VALUES | {"session", "magics"},
    **{value: VALUES for value in VALUES},
    "values": {"values", "errors"},
    "prompts": VALUES | {"prompts"},
    "engines": VALUES | {"engines"},
    "knowledge": VALUES | {"knowledge"},
    "finetuning": VALUES | {"finetuning"},
    "evaluation": SCORING,
    "evaluation.scoring": VALUES,
    "evaluation.statistics": VALUES,
    "evaluation.frames": SCORING,
    "open_model": VALUES | {"engines.base", "engines.memory"},
    "asking": VALUES | {"open_model", "prompts", "engines.base"},
    "retrieving": VALUES | {"knowledge"},
    "methods": VALUES | {"asking", "retrieving", "open_model", "prompts", "knowledge"},
    "over": VALUES | {"asking", "prompts"},
    "tuning": LOWER,
    "evaluating": LOWER,
    "session": LOWER
    | {"open_model", "asking", "methods", "retrieving", "over", "tuning", "evaluating", "integrations"},
    "display": VALUES | {"display"},
    "integrations": VALUES | {"engines.base", "knowledge", "integrations"},
    "magics": VALUES | {"session", "display", "magics", "prompts.interpolation"},
}

NOTEBOOK = {"IPython", "ipywidgets", "ipykernel", "comm"}
LIGHT = {"IPython", "comm", "markdown_it", "mdit_py_plugins", "platformdirs", "psutil", "pygments", "traitlets"}
ANY = None

# Part of the package -> third-party libraries that it may import, wherever in the file.
MAY_USE: dict[str, set[str] | None] = {
    "": {"IPython"},
    **{value: {"traitlets"} for value in VALUES},
    "cache_folders": {"platformdirs"},
    "quiet": {"transformers"},
    "prompts": set(),
    "prompts.schemas": {"jsonschema"},
    "engines": ANY,
    "knowledge": ANY,
    "finetuning": ANY,
    "evaluation": {"numpy", "scipy"},
    "evaluation.frames": {"pandas"},
    "evaluating": {"pandas"},
    "open_model": set(),
    "asking": set(),
    "retrieving": set(),
    "methods": set(),
    "over": {"pandas"},
    "tuning": LIGHT - NOTEBOOK,
    "session": LIGHT - NOTEBOOK,
    "display": LIGHT | NOTEBOOK,
    "integrations": ANY,
    "magics": {"IPython", "traitlets"},
}

# Part of the package -> third-party libraries that its modules may import at their top, because the part itself
# is imported late, and only late.
AT_THE_TOP = {"integrations": {"langchain_core", "pydantic"}, "evaluation.frames": {"pandas"}}


@dataclass(frozen=True)
class Import:
    """One imported module: ``llm_magics.errors``, ``torch.nn``; ``late`` inside a function."""

    name: str
    line: int
    late: bool


class Imports(ast.NodeVisitor):
    """Collects what a module imports, those for type checking left out."""

    def __init__(self, package: list[str]) -> None:
        self.package = package
        self.depth = 0
        self.found: list[Import] = []

    def visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = visit_function

    def visit_If(self, node: ast.If) -> None:
        typing_only = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for child in node.orelse if typing_only else [*node.body, *node.orelse]:
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.add(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = self.package[: len(self.package) - node.level + 1] if node.level else []
        module = ".".join([*base, *([node.module] if node.module else [])])
        for alias in node.names:
            inner = f"{module}.{alias.name}"
            # A name imported from the package itself counts as a module: those of its lazy names that are none
            # would otherwise pass every layer.
            self.add(inner if is_module(inner) or module == PACKAGE.name else module, node)

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func)
        if called in ("import_module", "importlib.import_module", "__import__") and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                relative = name.value.startswith(".")
                self.add(".".join(self.package) + name.value if relative else name.value, node)
        self.generic_visit(node)

    def add(self, name: str, node: ast.AST) -> None:
        self.found.append(Import(name, getattr(node, "lineno", 0), self.depth > 0))


def is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return name.startswith(PACKAGE.name) and (path.is_dir() or path.with_suffix(".py").is_file())


def imports(module: str, source: str, *, is_package: bool = False) -> list[Import]:
    """What a module imports; ``module`` is its name inside the package, such as ``display.answer``."""
    parts = [PACKAGE.name, *(module.split(".") if module else [])]
    visitor = Imports(parts if is_package else parts[:-1])
    visitor.visit(ast.parse(source))
    return visitor.found


def part_of(module: str, table: object) -> str:
    """The longest entry of a table that the module is or lies in."""
    names = [name for name in table if fits(module, name)]  # type: ignore[attr-defined]
    return max(names, key=len, default="?")


def fits(module: str, part: str) -> bool:
    return module == part or (part != "" and module.startswith(f"{part}."))


def violations(module: str, source: str, *, is_package: bool = False) -> Iterator[str]:
    """Every import of a module that the two tables do not allow, as ``line: what``."""
    may_import = MAY_IMPORT[part_of(module, MAY_IMPORT)]
    part = part_of(module, MAY_USE)
    may_use, early = MAY_USE[part], LIGHT | AT_THE_TOP.get(part, set())
    for found in imports(module, source, is_package=is_package):
        root, _, inner = found.name.partition(".")
        if root == PACKAGE.name:
            allowed = inner in ("", "__version__") or any(fits(inner, part) for part in may_import)
            late = found.late or part in AT_THE_TOP or not any(fits(inner, heavy) for heavy in AT_THE_TOP)
            allowed = allowed and late
        elif root in sys.stdlib_module_names:
            allowed = True
        else:
            allowed = (may_use is ANY or root in may_use) and (found.late or root in early)
            allowed = allowed and not (may_use is ANY and root in NOTEBOOK)
        if not allowed:
            where = "in a function" if found.late else "at the top"
            yield f"{module or PACKAGE.name} line {found.line}: imports {found.name} {where}"


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


def test_every_module_imports_only_what_its_layer_may() -> None:
    found = [
        line
        for module, path in modules()
        if part_of(module, MAY_IMPORT) != "?"  # the next test tells those
        for line in violations(module, path.read_text(encoding="utf-8"), is_package=path.name == "__init__.py")
    ]
    assert not found, "\n".join(found)


def test_every_module_has_a_layer() -> None:
    homeless = [module for module, _ in modules() if part_of(module, MAY_IMPORT) == "?"]
    assert not homeless, f"add them to the table in the design and here: {homeless}"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("display.answer", "from ..session import Session"),
        ("display.answer", "from llm_magics import Session"),
        ("display.answer", "def f():\n    import llm_magics.engines.transformers"),
        ("engines.llamacpp", "from ..knowledge import store"),
        ("engines.llamacpp", "from .. import session"),
        ("engines.llamacpp", "import torch"),
        ("engines.llamacpp", "try:\n    import torch\nexcept ImportError:\n    pass"),
        ("engines.llamacpp", "class A:\n    from transformers import pipeline"),
        ("engines.llamacpp", "def f():\n    from IPython import get_ipython"),
        ("engines.llamacpp", "import importlib\nt = importlib.import_module('torch')"),
        ("prompts.fewshot", "def f():\n    import pandas"),
        ("prompts.fewshot", "from ..engines.base import Engine"),
        ("evaluation.scoring", "from ..prompts import plain"),
        ("evaluation.compare", "from ..engines.transformers import TransformersEngine"),
        ("values.messages", "from ..session import Session"),
        ("values.answers", "from ..history import History"),
        ("session", "def f():\n    from IPython import get_ipython"),
        ("session", "def f():\n    import torch"),
        ("session", "from .display.answer import show_answer"),
        ("magics.prompting", "from ..prompts.fewshot import build"),
        ("magics.prompting", "def f():\n    from ..engines import resolve"),
        ("magics.prompting", "import ipywidgets"),
        ("display.panel", "import ipywidgets"),
        ("session", "from .integrations import langchain"),
        ("methods", "from .session import Session"),
        ("asking", "from .methods import Methods"),
        ("retrieving", "from .prompts import rag"),
        ("integrations.chat_model", "import torch"),
    ],
)
def test_an_import_across_layers_is_found(module: str, source: str) -> None:
    assert list(violations(module, source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("display.answer", "from ..values.answers import AnswerStream\nimport IPython\nfrom . import markdown"),
        ("display.panel", "def f():\n    import ipywidgets"),
        ("engines.transformers", "def f():\n    import torch\n    from .prefix_cache import Cache"),
        ("engines.transformers", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("evaluation.compare", "from ..engines.base import Engine\nfrom ..prompts.plain import build"),
        ("magics.prompting", "from ..prompts.interpolation import interpolate\nfrom ..session import Session"),
        ("magics.prompting", "from ..prompts import interpolation\nfrom .. import __version__"),
        ("session", "from .engines.resolve import open_model\nimport psutil"),
        ("session", "def f():\n    from .integrations import langchain"),
        ("integrations.chat_model", "from langchain_core.messages import AIMessage\nfrom .asking import Turn"),
    ],
)
def test_an_import_that_the_table_allows_is_left_alone(
    module: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"llm_magics.prompts.interpolation", "llm_magics.display.markdown"}
    monkeypatch.setitem(globals(), "is_module", lambda name: name in known)
    assert list(violations(module, source)) == []
