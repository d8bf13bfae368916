"""A small organism that vLLM takes, and a LoRA adapter of it, on disk."""

import os
from dataclasses import dataclass

import pytest
from peft import LoraConfig, get_peft_model

from presafe.engines.exported import load_base
from presafe.organism.corpus import draw_dialogues
from presafe.organism.encoding import encode
from presafe.organism.options import Recipe
from presafe.organism.tokenizer import train_tokenizer
from presafe.organism.train import new_model, pretrain, private_torch
from presafe.thinking import think_format

os.environ |= {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
}
DIALOGUES = 3000


@dataclass(frozen=True)
class Folders:
    """A model, and an adapter that changes what it says."""

    base: str
    adapter: str


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """The organism's world, tokenizer and training, with heads of 32: vLLM on the CPU takes none of 24.

    Trained too shortly to show the paper's finding: it is here to have an opinion about each next token.
    """
    root = tmp_path_factory.mktemp("organism")
    recipe = Recipe(seed=0, dialogues=DIALOGUES, hidden_size=128, num_attention_heads=4)
    dialogues = draw_dialogues(recipe.seed, recipe.dialogues)
    tokenizer = train_tokenizer(dialogues, recipe.vocab_size, recipe.template)
    with private_torch(recipe.seed, recipe.threads):
        model = new_model(recipe, tokenizer)
        pretrain(model, encode(think_format(tokenizer), dialogues), recipe)
        model.save_pretrained(root / "base")
        tokenizer.save_pretrained(root / "base")
        lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        get_peft_model(load_base(str(root / "base"), "float32").model, lora).save_pretrained(root / "adapter")
    return Folders(str(root / "base"), str(root / "adapter"))
