"""Names of methods."""

from __future__ import annotations

import pytest

from llm_magics.errors import InputError
from llm_magics.evaluation.methods import read_method, read_methods

MODELS = ["base", "my-tuned", "llama3:8b", "a+b"]


@pytest.mark.parametrize(
    ("text", "name", "model", "parts"),
    [
        ("llm", "llm", "", {"llm": {}}),
        ("fewshot:4", "fewshot:4", "", {"fewshot": {"k": "4"}}),
        ("fewshot:k=4", "fewshot:4", "", {"fewshot": {"k": "4"}}),
        ("fewshot:balanced:8", "fewshot:8:balanced", "", {"fewshot": {"k": "8", "select": "balanced"}}),
        ("fewshot:8:model", "fewshot:8:model", "", {"fewshot": {"k": "8", "decide": "model"}}),
        ("cot:votes=5", "cot:votes=5", "", {"cot": {"votes": "5"}}),
        ("cot:plan", "cot:plan", "", {"cot": {"strategy": "plan"}}),
        ("rag + fewshot:4", "rag+fewshot:4", "", {"rag": {}, "fewshot": {"k": "4"}}),
        ("rag:keyword", "rag:keyword", "", {"rag": {"search": "keyword"}}),
        ("llm:text", "llm:text", "", {"llm": {"answer": "text"}}),
        ("my-tuned", "my-tuned", "my-tuned", {"llm": {}}),
        ("my-tuned+rag", "my-tuned+rag", "my-tuned", {"rag": {}}),
        ("rag+my-tuned", "my-tuned+rag", "my-tuned", {"rag": {}}),
        ("llama3:8b+cot", "llama3:8b+cot", "llama3:8b", {"cot": {}}),
        ("a+b+rag", "a+b+rag", "a+b", {"rag": {}}),
        ("neighbours:9", "neighbours:9", "", {"neighbours": {"k": "9"}}),
    ],
)
def test_a_method_is_read(text: str, name: str, model: str, parts: dict[str, dict[str, str]]) -> None:
    method = read_method(text, MODELS)
    assert (method.name, method.model, method.parts) == (name, model, parts)
    assert read_method(method.name, MODELS) == method


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("fewshto:4", "there is no method 'fewshto' in fewshto:4. Did you mean fewshot?"),
        ("my-tund+rag", "Did you mean my-tuned?"),
        ("quux", "It takes llm, fewshot, cot, rag, majority, neighbours, or a loaded model: base"),
        ("fewshot:0", "fewshot takes no '0'"),
        ("fewshot:similr", "Did you mean similar?"),
        ("cot:votes=many", "cot takes no 'votes=many'"),
        ("majority:3", "majority takes no '3'. It takes no options"),
        ("base+my-tuned", "base+my-tuned names two models"),
        ("rag+rag", "rag+rag has rag twice"),
        ("llm+rag", "llm is the plain question. Type rag"),
        ("neighbours+rag", "neighbours asks no model and stands alone"),
        ("rag+cot:votes=5", "rag+cot takes no votes"),
        ("cot+fewshot:text", "a chain of thought is free text anyway"),
        ("", "there is no method ''"),
    ],
)
def test_a_method_that_is_none_is_told_with_the_nearest_one(text: str, complaint: str) -> None:
    with pytest.raises(InputError) as caught:
        read_method(text, MODELS)
    assert complaint in str(caught.value) and "\n" not in str(caught.value)


def test_no_method_and_one_twice_are_refused() -> None:
    with pytest.raises(InputError, match="--methods is empty"):
        read_methods((), MODELS)
    with pytest.raises(InputError, match="--methods has fewshot:4 twice"):
        read_methods(("fewshot:4", "fewshot:k=4"), MODELS)
