"""What `make gpu PART=run --dry-run` changes of the demo: an organism that has seen little, few prompts, few steps."""

import os

from transformers import GenerationConfig

from presafe.organism.corpus import draw_dialogues
from presafe.organism.encoding import encode
from presafe.organism.options import Recipe
from presafe.organism.tokenizer import train_tokenizer
from presafe.organism.train import new_model, pretrain, private_torch
from presafe.thinking import think_format

OVERRIDES = [
    "model.build=benchmarks.gpu_tiny:build",
    "prompts.sources=[{name: world, function: 'presafe.organism:prompts', "
    "options: {harmful: 60, benign: 60, reasoning: 20}}]",
    "prompts.suites=[{name: plain, function: 'presafe.organism:suite', options: {name: plain, size: 8}}]",
    "prompts.classifier_prompts=60",
    "prompts.validation_prompts=20",
    "teacher.max_unscored_share=1",
    "teacher.max_thinking_share=1",
    "teacher.max_traces=16",
    "signals.epochs=1",
    "signals.leave_one_source_out=false",
    "signals.baselines=false",
    "align.steps=3",
    "align.checkpoint_every=3",
    "evaluate.decoding.max_new_tokens=8",
    *(f"{stage}.workers.num_gpus=0" for stage in ("teacher", "signals", "align", "evaluate", "serve")),
]


def build(cache: str, seed: int) -> str:
    """As `presafe.organism:build`, in seconds and without its self-check."""
    folder = os.path.join(cache, "tiny")
    if not os.path.exists(folder):
        recipe = Recipe(seed=seed, dialogues=1500)
        dialogues = draw_dialogues(seed, recipe.dialogues)
        tokenizer = train_tokenizer(dialogues, recipe.vocab_size, recipe.template)
        with private_torch(seed, recipe.threads):
            model = new_model(recipe, tokenizer)
            pretrain(model, encode(think_format(tokenizer), dialogues), recipe)
        stops = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        model.generation_config = GenerationConfig(**stops)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder
