"""``%llm_panel`` as it is typed: what it opens, what its cell asks, and where it cannot be shown."""

from __future__ import annotations

from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter

from llm_magics.display.panel_state import PanelState
from llm_magics.magics.panel import PanelMagics
from llm_magics.magics.panel_asking import PanelSession
from llm_magics.magics.panel_cell import cell_text


@pytest.fixture
def notebook(notebook: Any) -> Any:
    from llm_magics.knowledge.embeddings import HashingEmbedder

    notebook.session.knowledge._embedders["words"] = HashingEmbedder()
    notebook.session.settings.embedding = "words"
    return notebook


def group(notebook: Any) -> PanelMagics:
    (found,) = [one for one in notebook.shell._llm_magics._groups if isinstance(one, PanelMagics)]
    return found


def test_a_terminal_is_told_what_to_type(notebook: Any) -> None:
    assert "Type %llm and the prompt" in notebook.run("%llm_panel").complaint


def test_help_and_tab_know_it(notebook: Any) -> None:
    assert "--insert" in notebook.good("%llm_panel --help").printed
    with provisionalcompleter():
        found = [one.text for one in notebook.shell.Completer.completions("%llm_panel --method ", 20)]
    assert set(found[:4]) == {"llm", "fewshot", "cot", "rag"}


@pytest.mark.parametrize(
    "state",
    [
        PanelState(prompt="Who?"),
        PanelState("fewshot", prompt="c", examples="a => b"),
        PanelState("cot", prompt="How many?"),
        PanelState("cot", prompt="How many?", votes=3),
        PanelState("rag", prompt="What is a llama?"),
    ],
    ids=lambda state: f"{state.method} {state.votes}",
)
def test_a_slider_stands_where_the_magic_would_be(notebook: Any, state: PanelState) -> None:
    notebook.answers("yes")
    notebook.good("%%rag_add\nA llama is an animal.")
    asked = PanelSession(notebook.shell, notebook.session)
    options = asked.ask(cell_text(state)).options
    assert options.temperature == asked.temperature(state)
    assert options.max_new_tokens == asked.max_new_tokens()


def test_the_panel_and_its_cell_ask_the_same_whatever_was_asked_before(notebook: Any) -> None:
    engine = notebook.answers("one", "two", "three", "four")
    notebook.good("%llm Remember me.")
    asked = PanelSession(notebook.shell, notebook.session)
    cell = cell_text(PanelState(prompt='Say "{{1 + 1}}" => $x$', system="It's so."))
    list(asked.ask(cell))
    notebook.good(cell)
    first, second = engine.prompts[-2:]
    assert first.text == second.text and first.messages[-1].content == 'Say "2" => $x$'
    assert len(notebook.session.history) == 1, "a try is no part of the conversation"


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("print(1)", "the panel asks one magic cell"),
        ("%%bash\nls", "the panel asks one magic cell"),
        ("%%llm --help\nhi", "a panel has no --help"),
        ("%%llm --dry-run\nhi", "--dry-run has no use in a panel"),
        ("%%llm --temp 1\nhi", "has no option --temp"),
        ("%%llm\n", "the prompt is empty"),
    ],
)
def test_a_box_that_holds_something_else_is_refused(notebook: Any, cell: str, said: str) -> None:
    from llm_magics.errors import InputError

    notebook.answers("yes")
    with pytest.raises(InputError, match=said):
        PanelSession(notebook.shell, notebook.session).ask(cell)


def test_insert_puts_the_cell_below_the_one_that_runs(notebook: Any) -> None:
    notebook.answers("yes")
    notebook.rich()
    assert "there is no panel" in notebook.run("%llm_panel --insert").complaint
    notebook.good("%llm_panel --method cot", cell_id="a")
    panel = group(notebook)._panel
    assert panel is not None
    panel._form._fields["prompt"].value = "How many?"
    notebook.good("%llm_panel --insert", cell_id="b")
    assert notebook.shell.rl_next_input == "%%cot\nHow many?"


def test_a_panel_opened_again_goes_on_where_the_last_one_was(notebook: Any) -> None:
    notebook.answers("yes")
    notebook.rich()
    notebook.good("%llm_panel", cell_id="a")
    first = group(notebook)._panel
    assert first is not None
    first._form._fields["prompt"].value = "Who?"
    notebook.good("%llm_panel --method cot", cell_id="b")
    second = group(notebook)._panel
    assert second is not None and second is not first and first._closed
    assert second.state == PanelState("cot", prompt="Who?")
    notebook.good("%unload_ext llm_magics")
    assert second._closed


def test_where_nobody_looks_at_widgets_one_line_says_so(notebook: Any) -> None:
    notebook.answers("yes")
    outputs = notebook.rich()
    notebook.good("%llm_panel --method cot")
    assert [set(output["data"]) for output in outputs] == [{"text/html", "text/plain"}]
    assert "open this notebook in JupyterLab" in outputs[0]["data"]["text/plain"] and group(notebook)._panel is None
    assert "open this notebook in JupyterLab" in outputs[0]["data"]["text/html"]
