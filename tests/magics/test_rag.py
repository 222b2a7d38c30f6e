"""``%rag_add`` and ``%%rag`` as a person types them, with words compared by their hashes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_magics import Answer, Session
from llm_magics.errors import Interrupted, KnowledgeError

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
        ("%rag_add '" + "words " * 60 + "'", "there is no file or folder words words"),
        ("%rag_add '" + "what? " * 60 + "'", "no file fits what? what?"),
        ("%%rag_add " + "w" * 300 + " b\ntext", "a cell goes into one knowledge base"),
        ("%rag_add ~nouser/x", "nobody here is called nouser"),
        ("%%rag_add ~nouser/x y\ntext", "a cell goes into one knowledge base"),
        ("%rag_add --load ~nouser/x", "nobody here is called nouser"),
        ("%rag_add --load " + "w" * 300, "there is no folder w"),
    ],
)
def test_a_mistake_is_one_line_and_raises(notebook, cell, said):
    notebook.session.settings.embedding = "hashing-256"
    notebook.answers("never")
    assert said in notebook.run(cell).complaint


def test_a_cell_and_a_file_do_not_mix(docs, tmp_path):
    Path(tmp_path / "notes.md").write_text("cats")
    assert "%rag_add notes.md with one %" in docs.run("%%rag_add notes.md\ntext").complaint
    Path(tmp_path / "docs").mkdir()
    said = docs.run("%%rag_add docs\ntext").complaint
    assert "docs is a folder" in said and "%%rag_add --kb NAME" in said
    docs.good("%%rag_add --kb docs\ntext")
    assert "a cell goes into one knowledge base" in docs.run("%%rag_add a b\ntext").complaint
    said = docs.run("%rag_add --save ~nouser/x").complaint
    assert "nobody here is called nouser. Type the whole path" in said and not list(tmp_path.glob("~*"))


@pytest.mark.parametrize(
    ("folder", "name", "said"), [("~nouser/kb", "zoo", "nobody here"), ("kb", "z" * 300, "cannot")]
)
def test_a_folder_or_a_base_that_cannot_be_is_one_line(docs, folder, name, said):
    docs.session.settings.knowledge_folder = folder
    assert said in docs.run(f"%%rag_add --kb {name}\ntext").complaint
    assert said in docs.run(f"%rag --kb {name} what").complaint


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


def reopened(docs):
    """A session like that of the next kernel."""
    return Session(docs.session.settings, say=lambda line: None)


def test_what_was_shorter_or_smaller_when_added_again_loses_what_is_gone(docs):
    import pandas as pd

    docs.names["facts"] = [FACTS[0], "A new sentence."]
    ran = docs.good("%rag_add --var facts")
    assert "1 changed" in ran.printed and "1 taken out" in ran.printed and "  facts[2]" in ran.printed
    assert list(docs.session.knowledge.find().sources) == ["facts[0]", "facts[1]"]
    docs.names["facts"] = "One text."
    docs.good("%rag_add --var facts")
    assert list(docs.session.knowledge.find().sources) == ["facts"]
    docs.names["table"] = pd.DataFrame({"text": ["one apple", "two pears"]})
    docs.good("%rag_add -n fruit --var table.text")
    docs.names["table"] = docs.names["table"][:1]
    docs.good("%rag_add -n fruit --var table.text")
    assert list(docs.session.knowledge.find("fruit").sources) == ["table.text[0]"]


def test_documents_with_sources_of_their_own_go_with_their_variable(docs):
    documents = pytest.importorskip("langchain_core.documents")
    docs.names["pages"] = [documents.Document("cats eat fish", metadata={"source": name}) for name in ("a", "b", "c")]
    docs.good("%rag_add --var pages -n pages")
    docs.names["pages"] = docs.names["pages"][1:]
    docs.good("%rag_add --var pages")
    assert list(docs.session.knowledge.find("pages").sources) == ["b", "c"]
    assert "pages is taken out: 2 sources, 2 chunks" in docs.good("%rag_add --remove pages").printed


def test_files_that_are_gone_from_a_folder_or_pattern_are_taken_out_and_named(docs, tmp_path):
    for name in ("notes/a.md", "notes/in/b.md", "notes/in/c.md", "other/d.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    docs.good("%rag_add notes other/d.md")
    for name in ("notes/in/b.md", "other/d.md"):
        (tmp_path / name).unlink()
    assert "1 taken out" in docs.good("%rag_add ./notes").printed
    assert set(docs.session.knowledge.find().sources) == {f"facts[{n}]" for n in range(3)} | {
        "notes/a.md",
        "notes/in/c.md",
        "other/d.md",
    }
    (tmp_path / "notes/in/c.md").unlink()
    assert "  notes/in/c.md" in docs.good("%rag_add notes/**/*.md").printed
    docs.good("%rag_add .")
    assert [one for one in docs.session.knowledge.find().sources if "[" not in one] == ["notes/a.md"]


def test_a_folder_or_a_list_is_taken_out_by_its_name(docs, tmp_path):
    (tmp_path / "notes").mkdir()
    for name in ("a.md", "b.md"):
        (tmp_path / "notes" / name).write_text(f"text of {name}")
    docs.good("%rag_add notes")
    assert "notes/ is taken out: 2 sources, 2 chunks" in docs.good("%rag_add --remove notes/").printed
    assert "facts is taken out: 3 sources, 3 chunks" in docs.good("%rag_add --remove facts").printed
    assert "has no source facts" in docs.run("%rag_add --remove facts").complaint


def test_files_of_two_working_folders_with_one_name_are_two_sources(docs, open_notebook, tmp_path, monkeypatch):
    shared = tmp_path / "shared"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.md").write_text(f"text of {name}")
        monkeypatch.chdir(tmp_path / name)
        other = open_notebook(LLMMagics={"knowledge_folder": str(shared), "embedding": "hashing-256"})
        other.good("%rag_add notes.md -n both")
        assert "0 new" in other.good("%rag_add ../" + name + "/notes.md -n both").printed
    assert {found.text for found in other.session.retrieve("text")} == {"text of one", "text of two"}
    other.good("%rag_add --remove notes.md")
    assert [found.text for found in other.session.retrieve("text")] == ["text of one"]


def test_a_base_that_was_saved_in_another_working_folder_keeps_its_files_apart(docs, tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.md").write_text(f"text of {name}")
    monkeypatch.chdir(tmp_path / "one")
    docs.good("%rag_add notes.md -n both --save ../kept")
    monkeypatch.chdir(tmp_path / "two")
    docs.good("%rag_add --load ../kept")
    docs.good("%rag_add notes.md")
    assert {found.text for found in docs.session.retrieve("text")} == {"text of one", "text of two"}


def test_saved_bases_are_shown_before_they_are_opened(docs, open_notebook, tmp_path):
    docs.session.settings.knowledge_folder = str(tmp_path / "bases")
    docs.session.knowledge_base("empty")
    assert "memory" in next(line for line in docs.good("%rag_add").printed.splitlines() if line.startswith("empty"))
    docs.good("%rag_add --var facts -n project")
    (tmp_path / "bases/broken").mkdir()
    (tmp_path / "bases/broken/manifest.json").write_text("{")
    other = open_notebook(LLMMagics={"knowledge_folder": str(tmp_path / "bases"), "embedding": "hashing-256"})
    _, _, broken, project, note = other.good("%rag_add").printed.splitlines()
    assert broken.split()[:4] == ["broken", "0", "0", "damaged"]
    assert project.split()[:5] == ["project", "3", "3", "hashing-256", "exact"] and "not open yet" in project
    assert "%rag --kb project" in note and "broken" not in note
    other.good("%rag_add --kb project --list")
    assert "not open yet" not in next(
        line for line in other.good("%rag_add").printed.splitlines() if line.startswith("project")
    )


def test_a_cleared_base_leaves_nothing_on_the_disk_and_is_bound_to_nothing(docs, tmp_path):
    docs.session.settings.knowledge_folder = str(tmp_path / "bases")
    docs.good("%rag_add --var facts -n zoo")
    docs.good("%rag_add --clear --kb zoo")
    assert not (tmp_path / "bases/zoo").exists()
    docs.good("%rag_add --var facts -n zoo --embedding hashing-128")
    assert reopened(docs).knowledge.find("zoo").embedding == "hashing-128"
    docs.good("%rag_add --remove facts")
    assert not (tmp_path / "bases/zoo").exists()


def test_what_goes_through_the_vector_store_is_saved_as_well(docs, tmp_path):
    docs.session.settings.knowledge_folder = str(tmp_path / "bases")
    store = docs.session.knowledge_base("zoo")
    ids = store.add_texts(["The zoo opens at nine.", "The zoo closes at six."])
    assert len(reopened(docs).knowledge.find("zoo").sources) == 2
    store.delete(ids[:1])
    assert list(reopened(docs).knowledge.find("zoo").sources) == ids[1:]
    docs.session.knowledge_base("zoo").as_retriever().vectorstore.add_texts(["Goats climb."])
    assert len(reopened(docs).knowledge.find("zoo").sources) == 2
    store.delete()
    with pytest.raises(KnowledgeError, match="there is no knowledge base zoo"):
        reopened(docs).knowledge.find("zoo")


def test_a_foreign_manifest_steers_no_terminal(docs, tmp_path):
    from llm_magics.knowledge import saving

    docs.good("%rag_add --save foreign")
    path = tmp_path / "foreign/manifest.json"
    manifest = json.loads(path.read_text())
    for key, value, shown in (
        ("name", "\x1b[2Jevil\n\u202e", "evil"),
        ("embedding", "\x1b]0;evil\x07", "evil"),
        ("version", "\x1b[31m", "31m"),
    ):
        changed = {**manifest, key: value}
        del changed["checksum"]
        path.write_text(json.dumps({**changed, "checksum": saving._seal(changed)}))
        printed = docs.run("%rag_add --load foreign").printed
        printed += docs.run("%rag_add").printed + docs.run("%rag_add --list").printed
        assert not [c for c in printed if c in "\x1b\x07\u202e"], printed
        assert shown in printed


@pytest.mark.parametrize(
    ("where", "cell", "said"),
    [
        ("knowledge.open", "%rag_add --var facts -n other", "stopped; nothing was added"),
        ("retrieve", "%rag --retrieve-only What is a llama?", "stopped"),
    ],
)
def test_an_interrupt_before_anything_can_be_kept_is_one_line_too(docs, monkeypatch, where, cell, said):
    def pressed(*given, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(docs.session, "retrieve", pressed) if where == "retrieve" else monkeypatch.setattr(
        docs.session.knowledge, "open", pressed
    )
    ran = docs.run(cell)
    assert isinstance(ran.error, Interrupted)
    assert ran.printed.strip().splitlines()[-1] == f"KeyboardInterrupt: {said}" and "Traceback" not in ran.printed
    monkeypatch.undo()
    docs.good("%rag What is a llama?")


def test_retrieve_only_shows_all_that_an_answer_can_cite(docs):
    docs.names["list"] = [f"Llama number {n} lives in field {n}." for n in range(40)]
    docs.good("%rag_add --var list -n llamas")
    shown = {passage.text for passage in docs.good("%rag --retrieve-only Where does llama number 7 live?").value}
    sources = docs.good("%rag Where does llama number 7 live?").value.sources
    assert len(sources) == 6 and {source.text for source in sources} <= shown


def test_what_an_interrupt_left_is_told_as_it_is(docs, monkeypatch):
    base = docs.session.knowledge.find()
    add = base.add

    def interrupted(documents, *rest, **more):
        add([document for document in documents][:1], *rest, **more)
        base.remove("facts[2]")
        base.remove("facts[1]")
        raise KeyboardInterrupt

    monkeypatch.setattr(base, "add", interrupted)
    docs.names["facts"] = ["x", "y"]
    ran = docs.run("%rag_add --var facts")
    assert (
        isinstance(ran.error, KeyboardInterrupt) and "stopped; default holds 1 chunk, each source whole" in ran.printed
    )
    assert "-" not in ran.printed.split("stopped;")[1]


def test_a_cell_is_listed_with_its_first_words(docs):
    assert docs.good("%rag_add --list").printed.splitlines()[1].split() == ["source", "chunks"]
    docs.good("%%rag_add\nThe zoo opens at nine.", cell_id="aaaa-1")
    lines = docs.good("%rag_add --list").printed.splitlines()
    assert lines[1].split() == ["source", "title", "chunks"] and "The zoo opens at nine." in lines[-2]


def test_a_variable_or_a_base_that_is_given_as_a_file_is_told(docs):
    assert "default is a knowledge base and no file. Name it so: --kb default" in docs.run("%rag_add default").complaint
    assert "%rag_add --clear --kb NAME" in docs.run("%rag_add --clear default").complaint
    assert "facts is a variable and no file. Type %rag_add --var facts" in docs.run("%rag_add facts").complaint


def test_a_terminal_says_an_answer_once_and_then_what_it_quotes(docs):
    docs.answers(FACTS[0])
    printed = docs.good("%rag Which family of models did Meta release?").printed
    assert printed.count(FACTS[0]) == 1 and "(quoted from [1])" in printed


def test_an_addition_that_was_stopped_before_anything_leaves_no_base_and_no_empty_figures(notebook, monkeypatch):
    from llm_magics.knowledge.store import KnowledgeBase

    def interrupted(*documents, **more):
        raise KeyboardInterrupt

    notebook.session.settings.embedding = "hashing-256"
    monkeypatch.setattr(KnowledgeBase, "add", interrupted)
    notebook.names["facts"] = FACTS
    ran = notebook.run("%rag_add --var facts")
    assert "default: stopped · nothing was added · " in ran.printed
    assert "holds" not in ran.printed and "·  ·" not in ran.printed and "in memory" not in ran.printed
    assert "stopped; nothing was added" in str(ran.error)
    assert len(notebook.session.knowledge) == 0


def test_each_source_of_an_answer_has_the_number_that_it_is_cited_by(docs):
    sources = docs.good("%rag Which family of models did Meta release?").value.sources
    assert [source.number for source in sources] == list(range(1, len(sources) + 1)) and len(sources) > 1
    docs.good("%rag --retrieve-only -o found Which family of models did Meta release?")
    assert [passage.number for passage in docs.names["found"]] == list(range(1, len(docs.names["found"]) + 1))


def test_several_images_of_a_folder_are_counted_and_a_skipped_file_is_named_once(docs, tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.md").write_text("Zebras have stripes.")
    for name in ("one.png", "two.png", "data.bin"):
        (tmp_path / "docs" / name).write_bytes(b"\0\1\2" * 100)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    printed = docs.good("%rag_add ../docs/ -n animals").printed
    assert "3 sources skipped:\n  ../docs/data.bin: is no text\n  2 images: no text in them is read" in printed
    assert "png" not in printed


def test_a_base_that_is_not_there_names_those_that_are(docs):
    assert "there is no knowledge base nothing. There is default" in docs.run("%rag -n nothing What?").complaint
