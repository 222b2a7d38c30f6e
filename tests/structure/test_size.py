"""Holds the rules on length, unfinished work and unpickling."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FUNCTION_LINES = 50
MAGIC_LINES = 15

# A display formatter raises NotImplementedError to pass an object on; such a line says so.
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|raise NotImplementedError(?!  # IPython's way))\b")
UNPICKLING = re.compile(
    r"\b(import|from) (pickle|_pickle|cPickle|cloudpickle|dill|joblib|shelve|marshal)\b"
    r"|\b(allow_pickle|allow_dangerous_deserialization)=True|\bread_pickle\(|\bweights_only=False"
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def functions(source: str) -> Iterator[Function]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function):
            yield node


def length(function: Function) -> int:
    """Lines from ``def`` to the end, docstring included, decorators not."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def is_magic(function: Function) -> bool:
    """Whether a decorator such as ``@line_cell_magic`` makes it one."""
    names = (ast.unparse(d.func if isinstance(d, ast.Call) else d) for d in function.decorator_list)
    return any(re.search(r"(^|[._])magic$", name) for name in names)


def body_length(function: Function) -> int:
    """Lines of what it does: docstring left out."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def too_long(source: str) -> list[str]:
    return [f"{f.name}: {length(f)} lines" for f in functions(source) if length(f) > FUNCTION_LINES]


def magics_too_long(source: str) -> list[str]:
    found = [f for f in functions(source) if is_magic(f)]
    return [f"{f.name}: {body_length(f)} lines" for f in found if body_length(f) > MAGIC_LINES]


def lines_with(pattern: re.Pattern[str], path: Path) -> list[str]:
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    return [f"{path.relative_to(ROOT)}:{number}: {line.strip()}" for number, line in lines if pattern.search(line)]


@pytest.mark.parametrize(
    "path", sources("llm_magics", "examples", "benchmarks"), ids=lambda p: str(p.relative_to(ROOT))
)
def test_no_function_is_longer_than_fifty_lines(path: Path) -> None:
    assert too_long(path.read_text(encoding="utf-8")) == []


def test_the_body_of_every_magic_is_at_most_fifteen_lines() -> None:
    texts = [path.read_text(encoding="utf-8") for path in sources("llm_magics/magics")]
    assert any(is_magic(function) for text in texts for function in functions(text)), "no magic was recognised"
    assert [line for text in texts for line in magics_too_long(text)] == []


def test_nothing_is_left_unfinished() -> None:
    assert [line for path in sources("llm_magics", "examples") for line in lines_with(UNFINISHED, path)] == []


def test_nothing_is_unpickled() -> None:
    assert [line for path in sources("llm_magics", "examples") for line in lines_with(UNPICKLING, path)] == []


def test_what_is_too_long_or_forbidden_would_be_found() -> None:
    assert too_long("def f():\n" + "    a = 1\n" * FUNCTION_LINES) == [f"f: {FUNCTION_LINES + 1} lines"]
    assert too_long("def f():\n" + "    a = 1\n" * (FUNCTION_LINES - 1)) == []
    magic = "class M:\n    @arguments.common\n    @line_cell_magic('llm')\n    def f(self):\n        'Doc.'\n"
    assert magics_too_long(magic + "        a = 1\n" * (MAGIC_LINES + 1)) == [f"f: {MAGIC_LINES + 1} lines"]
    assert magics_too_long(magic + "        a = 1\n" * MAGIC_LINES) == []
    assert UNFINISHED.search("x = 1  # TODO: more") and UNFINISHED.search("raise NotImplementedError")
    assert not UNFINISHED.search("raise NotImplementedError  # IPython's way to say: use the other formatters")
    assert not UNFINISHED.search("except NotImplementedError:")  # what a library says of itself
    assert UNPICKLING.search("from pickle import load") and UNPICKLING.search("torch.load(f, weights_only=False)")
    assert not UNPICKLING.search("from . import unpickled")
