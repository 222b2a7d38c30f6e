"""``%rag_add`` and ``%%rag`` as a person types them, with words compared by their hashes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_magics import Answer

FACTS = [
    "Llama 2 is a family of large language models that Meta released in July 2023.",
    "Its three sizes have 7, 13 and 70 billion parameters.",
    "A llama is a domesticated animal from South America.",
]


@pytest.fixture(autouse=True)
def extra() -> None:
    for package in ("faiss", "bm25s", "langchain_text_splitters"):
        pytest.importorskip(package, reason="the extra rag is not installed")


@pytest.fixture
def docs(notebook):
    """A notebook whose knowledge base holds three sentences, and a model that cites."""
    notebook.session.settings.embedding = "hashing-256"
    notebook.names["facts"] = FACTS
    notebook.engine = notebook.answers("A family of language models [1].")
    notebook.good("%rag_add --var facts")
    return notebook


def test_a_cell_is_added_and_the_answer_knows_its_sources(notebook):
    notebook.session.settings.embedding = "hashing-256"
    engine = notebook.answers("Released in July 2023 [1].")
    notebook.good(f"%%rag_add\n{FACTS[0]}", cell_id="aaaa-1")
    answer = notebook.good("%rag When was Llama 2 released?").value
    assert isinstance(answer, Answer) and answer == "Released in July 2023 [1]."
    (source,) = answer.sources
    assert source.text == FACTS[0] and source.title.startswith("Llama 2 is a family") and source.score > 0
    prompt = engine.prompts[-1].messages[-1].content
    assert prompt.index(FACTS[0]) < prompt.index("When was Llama 2 released?")


def test_the_same_cell_again_adds_nothing_and_a_changed_one_replaces_its_text(notebook):
    notebook.session.settings.embedding = "hashing-256"
    notebook.good("%%rag_add\ncats eat fish", cell_id="aaaa-1")
    assert "0 new" in notebook.good("%%rag_add\ncats eat fish", cell_id="aaaa-1").printed
    notebook.good("%%rag_add\ncows eat grass", cell_id="aaaa-1")
    (passage,) = notebook.session.retrieve("what do cows eat")
    assert passage.text == "cows eat grass"
    assert len(notebook.session.knowledge.find()) == 1


def test_two_cells_without_a_front_end_are_two_sources(notebook):
    notebook.session.settings.embedding = "hashing-256"
    notebook.good("%%rag_add\ncats eat fish")
    notebook.good("%%rag_add\ncows eat grass")
    assert len(notebook.session.knowledge.find().sources) == 2


def test_a_cell_names_its_knowledge_base(docs):
    docs.good("%%rag_add zoo\nThe zoo opens at nine.")
    docs.good("%%rag_add --kb zoo\nThe zoo closes at six.")
    assert [base.name for base in docs.session.knowledge] == ["default", "zoo"]
    assert docs.session.retrieve("zoo")[0].text.startswith("The zoo")
    assert docs.good("%rag --kb default --retrieve-only -o found Which family of models did Meta release?")
    assert docs.names["found"][0].text == FACTS[0]


def test_files_folders_and_patterns_are_added_and_what_cannot_be_read_is_named(docs, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.md").write_text("# Zebras\n\nZebras have stripes.")
    (tmp_path / "notes/b.txt").write_text("Lions roar.")
    (tmp_path / "notes/c.bin").write_bytes(b"\0\1\2" * 100)
    printed = docs.good("%rag_add notes/ -n animals").printed
    assert "2 new" in printed and "c.bin" in printed
    assert docs.session.retrieve("zebras stripes")[0].place == "Zebras"
    assert "c.bin is no text" in docs.run("%rag_add notes/c.bin --strict").complaint
    assert "0 new" in docs.good("%rag_add notes/*.txt -n animals").printed
    for spelling in ("./notes/b.txt", str(tmp_path / "notes/b.txt"), "notes/../notes/b.txt"):
        assert "0 new" in docs.good(f"%rag_add {spelling} -n animals").printed
    assert "taken out" in docs.good("%rag_add --remove ./notes/b.txt -n animals").printed


def test_variables_of_every_kind_are_added(docs):
    import pandas as pd

    docs.names["table"] = pd.DataFrame({"text": ["one apple", "two pears"], "label": ["a", "b"]})
    assert "2 new" in docs.good("%rag_add -n fruit --var table.text").printed
    assert "2 new" in docs.good('%rag_add -n berries --var table["text"]').printed
    assert "--var table['text']" in docs.run("%rag_add -n fruit --var table").complaint
    assert "Did you mean table?" in docs.run("%rag_add -n fruit --var tabel").complaint


def test_list_remove_and_clear(docs):
    assert "facts[0]" in docs.good("%rag_add --list").printed
    assert "facts[1] is taken out: 1 chunk" in docs.good("%rag_add --remove facts[1]").printed
    assert "facts[1]" not in docs.good("%rag_add --list").printed
    assert "Did you mean facts[0]?" in docs.run("%rag_add --remove fact[0]").complaint
    assert "default is empty: 2 sources taken out" in docs.good("%rag_add --clear").printed
    assert "there is no knowledge base default" in docs.run("%rag Which family of models did Meta release?").complaint


def test_alone_it_shows_the_knowledge_bases(docs):
    printed = docs.good("%rag_add").printed
    assert "default" in printed and "hashing-256" in printed and "exact" in printed and "memory" in printed


def test_a_saved_base_opens_in_the_next_kernel(docs, open_notebook, tmp_path):
    docs.good("%rag_add --save kb")
    other = open_notebook()
    assert "default is open: 3 sources, 3 chunks, hashing-256, exact index" in other.good("%rag_add --load kb").printed
    assert other.session.retrieve("Which family of models did Meta release?")[0].text == FACTS[0]
    manifest = json.loads((tmp_path / "kb/manifest.json").read_text())
    (tmp_path / "kb" / manifest["files"]["sources"]).write_text("{}")
    assert "was changed or cut off" in other.run("%rag_add --load kb").complaint
    assert len(other.session.knowledge.find()) == 3, "the open base is untouched"


def test_bases_in_a_project_folder_live_on(docs, open_notebook, tmp_path):
    docs.session.settings.knowledge_folder = "bases"
    docs.good("%rag_add --var facts -n project")
    other = open_notebook(LLMMagics={"knowledge_folder": str(tmp_path / "bases"), "embedding": "hashing-256"})
    other.answers("yes [1]")
    assert other.good("%rag -n project Which family of models did Meta release?").value.sources[0].text == FACTS[0]
    other.good("%rag_add --remove facts[0]")
    third = open_notebook(LLMMagics={"knowledge_folder": str(tmp_path / "bases"), "embedding": "hashing-256"})
    assert len(third.session.knowledge.find("project").sources) == 2
    assert "There is project" in third.run("%rag -n nothing What?").complaint


def test_another_embedding_model_is_refused(docs):
    said = docs.run("%rag_add --embedding hashing-128 --var facts").complaint
    assert "default was made with hashing-256, not hashing-128" in said
    docs.good("%rag_add --embedding hashing-128 --var facts --kb small")


def test_retrieve_only_asks_no_model(docs):
    docs.good("%rag --retrieve-only -k 1 -o found Which family of models did Meta release?")
    assert [passage.text for passage in docs.names["found"]] == [FACTS[0]]
    assert docs.engine.prompts == []


def test_below_the_lowest_score_no_model_is_asked_and_the_answer_says_so(docs):
    answer = docs.good("%rag --min-score 0.99 Which family of models did Meta release?").value
    assert answer.startswith("Not in the documents") and "0.99" in answer
    assert docs.engine.prompts == [] and answer.sources == () and answer.model == ""
    assert docs.session.history.find("Not in the documents")


def test_no_context_asks_the_same_question_without_passages(docs):
    answer = docs.good("%rag --no-context Which family of models did Meta release?").value
    (asked,) = docs.engine.prompts[-1].messages
    assert answer.sources == () and asked.content == "Which family of models did Meta release?"


def test_cot_and_examples_go_along(docs):
    docs.names["worked"] = [("How tall is it?", "Not in the documents.")]
    docs.answers("The passage says 7, 13 and 70. [1]\nAnswer: three [1]")
    answer = docs.good("%rag --cot -e worked How many sizes are there?").value
    assert answer == "three [1]" and "7, 13 and 70" in answer.reasoning and answer.sources
    assert [message.role for message in answer.messages] == ["user", "assistant", "user"]


def test_dry_run_shows_the_prompt_with_its_passages(docs):
    prompt = docs.good("%rag --dry-run Which family of models did Meta release?").value
    assert FACTS[0] in prompt.text and docs.engine.prompts == []


def test_a_context_that_is_too_long_is_cut_and_the_cut_is_told(docs):
    docs.names["long"] = [f"llama number {number} " + "and so on " * 40 for number in range(4)]
    docs.good("%rag_add --var long -n long")
    docs.answers("yes [1]", context=370)
    ran = docs.good("%rag -n long -k 4 --max-new-tokens 20 llama number")
    assert "The model reads 2 of 4 passages" in ran.printed and len(ran.value.sources) == 2
    docs.answers("yes [1]", context=90)
    ran = docs.good("%rag -n long -k 4 --max-new-tokens 20 llama number")
    assert "1 of 4 passages, cut to" in ran.printed
    (source,) = ran.value.sources
    assert source.end - source.start == len(source.text)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%rag What is it?", "there is no knowledge base default. %%rag_add with a text below it makes one"),
        ("%rag_add nowhere.txt", "there is no file or folder nowhere.txt"),
        ("%%rag_add\n", "there is nothing to add"),
        ("%rag_add --list", "there is no knowledge base"),
        ("%rag_add --load nowhere", "there is no folder nowhere"),
        ("%rag_add ftp://example.org/a", "is no web address"),
        ("%rag_add file:///etc/passwd", "is no web address"),
        ("%rag_add --splitter recursiv a.txt", "Did you mean recursive"),
        ("%rag --search keywords x", "Did you mean keyword"),
        ("%rag --min-score 3 x", "--min-score is 3"),
        ("%rag --retrieve-only --no-context x", "leave nothing to do"),
        ("%rag --retrieve x", "Did you mean --retrieve-only"),
        ("%rag", "there is no question"),
        ("%rag_add --store nothing_here", "there is no variable nothing_here"),
    ],
)
def test_a_mistake_is_one_line_and_raises(notebook, cell, said):
    notebook.session.settings.embedding = "hashing-256"
    notebook.answers("never")
    assert said in notebook.run(cell).complaint


def test_a_cell_and_a_file_do_not_mix(docs, tmp_path):
    Path(tmp_path / "notes.md").write_text("cats")
    assert "%rag_add notes.md with one %" in docs.run("%%rag_add notes.md\ntext").complaint
    assert "a cell goes into one knowledge base" in docs.run("%%rag_add a b\ntext").complaint


def test_braces_in_a_cell_are_filled_unless_asked_not_to(docs):
    docs.good("%%rag_add -n braces\nThere are {{len(facts)}} facts.")
    assert docs.session.retrieve("facts")[0].text == "There are 3 facts."
    docs.good("%%rag_add -n raw --no-interpolate\nA template writes {{ name }}.")
    assert docs.session.retrieve("template")[0].text == "A template writes {{ name }}."


def test_a_semicolon_silences(docs):
    assert docs.good("%rag_add --var facts -n quiet;").printed == ""
    outputs = docs.rich()
    assert "family" not in docs.good("%rag Which family of models did Meta release?;").printed
    assert "family" not in docs.good("%rag --retrieve-only Which family of models did Meta release?;").printed
    assert outputs == []


def test_tab_completes_the_names_of_knowledge_bases(docs):
    docs.good("%%rag_add zoo\nThe zoo opens at nine.")
    _, found = docs.shell.complete("%rag --kb z")
    assert "zoo" in found


def test_cells_whose_identities_begin_alike_are_two_sources(docs):
    docs.good("%%rag_add -n cells\ncats eat fish", cell_id="rag-add-1")
    docs.good("%%rag_add -n cells\ncows eat grass", cell_id="rag-add-2")
    assert len(docs.session.knowledge.find("cells").sources) == 2


def test_a_saved_base_that_this_session_has_not_read_is_never_saved_over(docs, tmp_path):
    from llm_magics import Session

    docs.session.settings.knowledge_folder = str(tmp_path / "bases")
    docs.good("%%rag_add -n shared\nfirst")
    other = Session(docs.session.settings, say=lambda line: None)
    other.knowledge.add_text("second", "shared").run()
    assert "has not read" in docs.run("%%rag_add -n shared\nthird").complaint
    third = Session(docs.session.settings, say=lambda line: None)
    assert len(third.knowledge.find("shared").sources) == 2
    folder = tmp_path / "bases/shared"
    docs.good(f"%rag_add --load {folder}")
    docs.good("%%rag_add -n shared\nthird")
    assert len(Session(docs.session.settings).knowledge.find("shared").sources) == 3


def test_an_add_that_fails_leaves_no_base_and_clear_stands_alone(docs):
    docs.run("%rag_add nosuch.md --kb typo")
    assert docs.session.knowledge.find().name == "default"
    assert "--clear empties" in docs.run("%rag_add --clear --save somewhere").complaint
    assert len(docs.session.knowledge.find()) == 3
