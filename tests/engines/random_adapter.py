"""An adapter that no training made, for tests of how adapters are kept apart."""

from __future__ import annotations


def make_adapter(model, folder, seed, rank=8):
    """A random adapter that changes the answers."""
    import copy

    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank, lora_alpha=128, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    get_peft_model(copy.deepcopy(model), config).save_pretrained(folder)
    return str(folder)
