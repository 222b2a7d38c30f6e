from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_magics.errors import InputError
from llm_magics.prompts.templates import NAMES, chat_template

TURNS = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "U1"},
    {"role": "assistant", "content": "A1"},
    {"role": "user", "content": "U2"},
]


def tokenizer(**special: str) -> Any:
    """A tokenizer made here, that puts its BOS token in front by itself as Llama's does."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[UNK]", *special.values(), *["S", "U1", "A1", "U2", "[", "]", "INST", "/", "<", ">", "SYS"]]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(dict.fromkeys(words))}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    if bos := special.get("bos_token"):
        inner.post_processor = processors.TemplateProcessing(f"{bos} $A", special_tokens=[(bos, words.index(bos))])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", **special)


def render(name: str, messages: list[dict[str, str]], *, prompt: bool = True, **special: str) -> str:
    return tokenizer(**special).apply_chat_template(
        messages, chat_template=chat_template(name), add_generation_prompt=prompt, tokenize=False
    )


LLAMA = {"bos_token": "<s>", "eos_token": "</s>"}


def test_llama_2_is_the_published_format_byte_for_byte():
    assert render("llama-2", TURNS, **LLAMA) == (
        "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nU1 [/INST] A1 </s><s>[INST] U2 [/INST]"
    )
    assert render("llama-2", TURNS[1:2], **LLAMA) == "<s>[INST] U1 [/INST]"


def test_chatml_is_the_published_format_byte_for_byte():
    assert render("chatml", TURNS, bos_token="<|im_start|>", eos_token="<|im_end|>") == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
        "<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n"
    )


def test_zephyr_is_the_published_format_byte_for_byte():
    assert render("zephyr", TURNS, **LLAMA) == (
        "<s><|system|>\nS</s>\n<|user|>\nU1</s>\n<|assistant|>\nA1</s>\n<|user|>\nU2</s>\n<|assistant|>\n"
    )


def test_alpaca_takes_the_system_text_in_place_of_its_first_sentence():
    assert render("alpaca", TURNS, **LLAMA) == (
        "<s>S\n\n### Instruction:\nU1\n\n### Response:\nA1</s>\n\n### Instruction:\nU2\n\n### Response:\n"
    )
    assert render("alpaca", TURNS[1:2], **LLAMA).startswith("<s>Below is an instruction that describes a task. Write")


def test_guanaco_names_the_human_and_the_assistant():
    assert render("guanaco", TURNS, **LLAMA) == (
        "<s>S\n### Human: U1\n### Assistant: A1</s>\n### Human: U2\n### Assistant:"
    )


@pytest.mark.parametrize("name", NAMES)
def test_without_a_generation_prompt_the_text_ends_with_the_answer(name: str):
    ended = render(name, TURNS[:3], prompt=False, **LLAMA).rstrip()
    assert ended.endswith(("A1 </s>", "A1</s>", "A1<|im_end|>"))


@pytest.mark.parametrize("name", NAMES)
def test_a_tokenizer_without_special_tokens_is_served(name: str):
    text = render(name, TURNS)
    assert "None" not in text
    assert "U2" in text
    assert not text.startswith(" ")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bos", ["<s>", "<|im_start|>"])
def test_the_encoded_prompt_never_begins_with_two_bos_tokens(name: str, bos: str):
    made = tokenizer(bos_token=bos, eos_token="</s>")
    assert made("U1")["input_ids"][0] == made.bos_token_id  # the danger is real: it adds one by itself
    ids = made.apply_chat_template(TURNS, chat_template=chat_template(name), add_generation_prompt=True)["input_ids"]
    assert ids[:2] != [made.bos_token_id] * 2
    if name != "chatml" or bos == "<|im_start|>":
        assert ids[0] == made.bos_token_id


def test_a_template_can_come_from_a_file(tmp_path: Path):
    file = tmp_path / "mine.jinja"
    file.write_text("{{ messages[0]['content'] }}")
    assert chat_template(str(file)) == "{{ messages[0]['content'] }}"


def test_an_unknown_template_offers_the_nearest_one_and_the_list():
    with pytest.raises(InputError) as caught:
        chat_template("llama2")
    assert "Did you mean llama-2?" in str(caught.value)
    assert all(name in str(caught.value) for name in NAMES)


@pytest.mark.parametrize("content", [b"", b"\xff"])
def test_a_file_that_is_no_template_is_refused(tmp_path: Path, content: bytes):
    file = tmp_path / "mine.jinja"
    file.write_bytes(content)
    with pytest.raises(InputError):
        chat_template(str(file))
    with pytest.raises(InputError):
        chat_template(str(tmp_path))
