"""Loading leaves nothing behind, names of others are theirs again, and Tab knows our options."""

from __future__ import annotations

import gc
import signal
import threading
import weakref
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter


def state(shell: Any) -> dict[str, Any]:
    """Everything of a shell that an extension could leave something in."""
    formatters = {**shell.display_formatter.formatters, "display": shell.display_formatter.ipython_display_formatter}
    return {
        "magics": {kind: dict(table) for kind, table in shell.magics_manager.magics.items()},
        "kept": set(vars(shell.magics_manager.user_magics)),
        "lazy": dict(shell.magics_manager.lazy_magics),
        "types": {name: set(formatter.type_printers) for name, formatter in formatters.items()},
        "deferred": {name: set(formatter.deferred_printers) for name, formatter in formatters.items()},
        "cleanup": list(shell.input_transformers_cleanup),
        "post": list(shell.input_transformers_post),
        "ast": list(shell.ast_transformers),
        "matchers": list(shell.Completer.custom_matchers),
        "configurables": list(shell.configurables),
        "events": {name: list(functions) for name, functions in shell.events.callbacks.items()},
        "attributes": set(shell.__dict__) - {"_logger", "_last_input_line", "get_parent"},
        "variables": {name for name in shell.user_ns if not name.startswith("_")},
        "interrupt": signal.getsignal(signal.SIGINT),
        "threads": {thread.name for thread in threading.enumerate() if "llm_magics" in thread.name},
    }


def test_unloading_leaves_nothing_behind(open_notebook: Any) -> None:
    notebook = open_notebook(load=False)
    shell = notebook.shell
    shell.run_line_magic("load_ext", "llm_magics")  # imports of the first time have effects of their own
    shell.run_line_magic("unload_ext", "llm_magics")
    before = state(shell)
    for _ in range(2):
        shell.run_line_magic("load_ext", "llm_magics")
        assert state(shell) != before
        notebook.answers("hello")
        shell.run_cell("%llm -o x hi\n%llm_config prefix=my_\n%my_llm hi", store_history=False)
        shell.run_cell("%my_cot hi?", store_history=False)
        assert len(notebook.session.history) == 3
        shell.run_line_magic("unload_ext", "llm_magics")
        del shell.user_ns["x"]
        after = state(shell)
        for name, value in before.items():
            assert after[name] == value, f"{name} is not as it was"


def test_reloading_leaves_one_of_everything(notebook: Any) -> None:
    def count() -> dict[str, int]:
        found = state(notebook.shell)
        return {name: len(value) for name, value in found.items() if hasattr(value, "__len__")}

    before, first = count(), notebook.session
    notebook.good("%reload_ext llm_magics")
    notebook.good("%load_ext llm_magics")
    assert {**count(), "variables": 0} == {**before, "variables": 0}
    assert notebook.session is not first
    engine = notebook.answers("hello")
    assert notebook.good("%llm Why?").value == "hello" and len(engine.prompts) == 1


def test_unloading_closes_the_models(notebook: Any) -> None:
    closed = []
    engine = notebook.answers("hello")
    engine.close = lambda: closed.append("fake")
    notebook.good("%unload_ext llm_magics")
    assert closed == ["fake"]
    assert "not found" in notebook.run("%llm hi").printed
    from llm_magics import LLMMagicsError, get_session

    with pytest.raises(LLMMagicsError, match=r"not loaded in this notebook. Type %load_ext llm_magics"):
        get_session()


def test_nothing_holds_the_session_after_unloading(notebook: Any) -> None:
    notebook.answers("hello")
    notebook.good("%llm hi;")
    session = weakref.ref(notebook.session)
    notebook.good("%unload_ext llm_magics")
    gc.collect()
    assert session() is None, "something of the extension is still registered, at exit for example"


def theirs(line: str, cell: str | None = None) -> str:
    """A magic of another extension."""
    return "theirs"


theirs.__module__ = "other_extension.magics"


def test_a_name_taken_by_another_extension_is_reported_and_given_back(open_notebook: Any) -> None:
    notebook = open_notebook(load=False)
    for kind in ("line", "cell"):
        notebook.shell.register_magic_function(theirs, magic_kind=kind, magic_name="llm")
    printed = notebook.good("%load_ext llm_magics").printed
    assert printed.count("\n") == 1
    assert "%llm belonged to other_extension and is now llm_magics'" in printed
    assert '%config LLMMagics.prefix = "my_" makes it %my_llm and gives the other back' in printed
    notebook.answers("ours")
    assert notebook.good("%llm hi").value == "ours"
    notebook.good('%config LLMMagics.prefix = "my_"')
    assert notebook.good("%llm hi").value == "theirs" and notebook.good("%%llm\nhi").value == "theirs"
    assert notebook.good("%my_llm hi").value == "ours"
    notebook.good('%config LLMMagics.prefix = ""')
    assert notebook.good("%llm hi").value == "ours"
    notebook.good("%unload_ext llm_magics")
    assert notebook.good("%llm hi").value == "theirs" and notebook.good("%%llm\nhi").value == "theirs"


def test_a_name_that_another_extension_takes_later_stays_theirs(notebook: Any) -> None:
    notebook.shell.register_magic_function(theirs, magic_kind="line", magic_name="llm")
    notebook.good("%unload_ext llm_magics")
    assert notebook.good("%llm hi").value == "theirs"


def test_a_prefix_renames_every_magic_with_its_help_and_its_question_mark(open_notebook: Any) -> None:
    notebook = open_notebook(LLMMagics={"prefix": "my_"})
    engine = notebook.answers("hello")
    assert notebook.good("%my_llm What is RAG?").value == "hello"
    assert engine.prompts[-1].messages[-1].content == "What is RAG?"
    assert "--temperature" in notebook.good("%%my_llm --help").printed
    assert "not found" in notebook.run("%llm hi").printed
    assert "prefix cannot be '1a'" in notebook.run("%my_llm_config prefix=1a").complaint


def completions(shell: Any, line: str) -> list[str]:
    """What Tab offers at the end of a line."""
    with provisionalcompleter():
        return [line[: found.start] + found.text for found in shell.Completer.completions(line, len(line))]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("%%llm --te", ["%%llm --temperature"]),
        ("%llm --te", ["%llm --temperature"]),
        ("x = %llm --te", ["x = %llm --temperature"]),
        ("%%llm -t 0 --max", ["%%llm -t 0 --max-new-tokens"]),
        (
            "%%fewshot --s",
            ["%%fewshot --schema", "%%fewshot --seed", "%%fewshot --select", "%%fewshot --stop", "%%fewshot --system"],
        ),
        ("%%cot --v", ["%%cot --votes"]),
        ("%llm -m ", ["%llm -m fake", "%llm -m fable"]),
        ("%llm -m fak", ["%llm -m fake"]),
        ("%llm --model fab", ["%llm --model fable"]),
        ("%llm_load sm", ["%llm_load smollm2", "%llm_load smollm2-1.7b", "%llm_load smollm2-360m"]),
        ("%llm_load --q", ["%llm_load --quantize"]),
        ("%llm_unload fab", ["%llm_unload fable"]),
        ("%llm_history --e", ["%llm_history --export"]),
    ],
)
def test_tab_completes_options_and_models(notebook: Any, line: str, offered: list[str]) -> None:
    notebook.answers("x", name="fake")
    notebook.answers("x", name="fable")
    assert sorted(completions(notebook.shell, line)) == sorted(offered)
    word = line.split(" ")[-1]
    _, matches = notebook.shell.complete(word, line, len(line))
    assert {match.split(" ")[-1] for match in matches} >= {text.split(" ")[-1] for text in offered}


def test_tab_leaves_other_lines_and_the_body_of_a_cell_alone(notebook: Any) -> None:
    notebook.names["temperate_zone"] = 1
    assert not [text for text in completions(notebook.shell, "%%llm\n--te") if "temperature" in text]
    assert "temperate_zone" in completions(notebook.shell, "temperate_z")
    assert not [text for text in completions(notebook.shell, "%time --te") if "temperature" in text]


def test_tab_completes_renamed_magics(notebook: Any) -> None:
    notebook.good("%llm_config prefix=my_")
    assert completions(notebook.shell, "%%my_llm --te") == ["%%my_llm --temperature"]
    assert "%my_llm_load smollm2" in completions(notebook.shell, "%my_llm_load sm")
