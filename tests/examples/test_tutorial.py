"""The tutorial, executed with the real model as ``make demo`` does it, shows what its text says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.model, pytest.mark.slow]


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """The executed cells by their first lines, and the page made of them."""
    out = tmp_path_factory.mktemp("tutorial")
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "examples" / "run.py"),
            str(ROOT / "examples" / "tutorial.ipynb"),
            "--out",
            str(out),
        ],
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "passive"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    notebook = nbformat.read(out / "tutorial.ipynb", as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def output(cells, begin, kind="text/plain"):
    """What the first cell that begins so shows."""
    cell = next(cell for cell in cells if cell.source.startswith(begin))
    return "\n".join(
        str(part.data[kind]) if "data" in part and kind in part.data else part.get("text", "") for part in cell.outputs
    )


def test_one_and_one_is_two(cells):
    assert "2" in output(cells, "%%llm -t 0\n1 + 1")


def test_without_examples_the_okay_food_is_not_neutral_and_with_two_it_is(cells):
    assert not output(cells, "%%llm -t 0 --repetition-penalty 1 --no-history -o zero_shot").startswith("Neutral")
    assert output(cells, "%%fewshot -o few_shot") == "Neutral"


def test_choices_and_similar_examples_name_the_department(cells):
    assert output(cells, "%%fewshot --choices").startswith("Neutral")
    assert output(cells, "%%fewshot -e tickets").startswith("delivery")


def test_the_reasoning_stands_apart_from_the_answer(cells):
    shown = output(cells, 'print("answer:')
    answer, reasoning = shown.strip().splitlines()[:2]
    assert answer == "answer:    15"
    assert "20 - 5" in reasoning
    page = output(cells, "%%cot -t 0 -o shirt", "text/html")
    assert "<details" in page


def test_the_votes_are_shown(cells):
    assert "Votes" in output(cells, "%%cot --votes 5", "text/html")


def test_the_dry_run_shows_the_exact_prompt(cells):
    shown = output(cells, "%%fewshot --dry-run")
    assert "exact prompt, 115 tokens" in shown
    assert "<|im_start|>assistant\nNeutral<|im_end|>" in shown


def test_without_the_documents_llama_2_is_made_up_and_with_them_it_is_right_and_names_its_source(cells):
    assert "Meta" not in output(cells, "%rag --no-context")
    shown = output(cells, "%rag --max-new-tokens 60 -o llama2")
    answer, _, sources = shown.partition("Sources")
    assert "family of large language models that Meta released in July 2023" in answer
    number = re.search(r"\[(\d)\]", answer)[1]
    assert f"[{number}] facts[0]" in sources
    assert '<a class="llm-cite"' in output(cells, "%rag --max-new-tokens 60 -o llama2", "text/html")


def test_adding_again_adds_nothing_and_a_question_that_nothing_fits_gets_no_invention(cells):
    first, again = [cell for cell in cells if cell.source == "%rag_add --var facts"]
    assert "6 new" in first.outputs[0].data["text/plain"] and "0 new" in again.outputs[0].data["text/plain"]
    assert output(cells, "%rag --min-score").startswith("Not in the documents")
    assert "2 passages of default" in output(cells, "%rag --retrieve-only")


def test_a_fact_that_no_model_knows_is_learned_and_the_base_does_not_learn_it(cells):
    asked = "--no-history --max-new-tokens 30 Brindlemoor stands on the banks of which river?"
    before, after, base = (
        output(cells, f"%llm {which}-t 0 {asked}") for which in ("", "-m brindlemoor ", "-m smollm2 ")
    )
    assert "Quessel" not in before and "Quessel" in after and "Quessel" not in base
    assert "20 of 20" in output(cells, "%llm_finetune two_facts")


def test_every_answer_is_saved_as_html_and_text_without_widgets(cells):
    asked = [cell for cell in cells if cell.source.startswith(("%%llm", "%%fewshot", "%%cot", "%llm -", "%rag "))]
    assert len(asked) == 16
    for cell in asked:
        kinds = {kind for part in cell.outputs if "data" in part for kind in part.data}
        assert kinds == {"text/html", "text/plain"}, cell.source
