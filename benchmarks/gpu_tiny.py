"""What `make gpu PART=run --dry-run` changes of the demo: a model that knows a few prompts by heart, and few steps."""

import os

from transformers import GenerationConfig

from presafe.organism import prompts
from presafe.organism.corpus import Dialogue
from presafe.organism.encoding import encode
from presafe.organism.options import Recipe
from presafe.organism.tokenizer import train_tokenizer
from presafe.organism.train import new_model, pretrain, private_torch
from presafe.thinking import think_format

PROMPTS = {"harmful": 32, "benign": 32, "reasoning": 0, "wrapped_share": 0}
TIMES = 15
"""How often the model sees each dialogue."""
REFUSAL, THOUGHT, ANSWER = "i cannot help with this .", "this is fine .", "sure , here is how ."
OVERRIDES = [
    "model.build=benchmarks.gpu_tiny:build",
    f"prompts.sources=[{{name: world, function: 'presafe.organism:prompts', options: {PROMPTS}}}]",
    "suites=[{name: plain, function: 'presafe.organism:suite', options: {name: plain, size: 8}}]",
    "prompts.keep_clear_of=[plain]",
    "prompts.classifier_prompts=20",
    "prompts.validation_prompts=20",
    "teacher.trace.max_new_tokens=32",
    "signals.epochs=1",
    "signals.leave_one_source_out=false",
    "signals.baselines=false",
    "align.steps=2",
    "align.checkpoint_every=2",
    "evaluate.decoding.max_new_tokens=16",
    *(f"{stage}.workers.num_gpus=0" for stage in ("teacher", "signals", "align", "evaluate", "serve")),
]


def build(cache: str, seed: int) -> str:
    """As `presafe.organism:build`, in seconds: refuses the harmful prompts with CoT off, and answers all with it on."""
    folder = os.path.join(cache, "tiny")
    if not os.path.exists(folder):
        dialogues = [dialogue for row in prompts(seed, **PROMPTS) for dialogue in _dialogues(row)]
        recipe = Recipe(seed=seed, vocab_size=400)
        tokenizer = train_tokenizer(dialogues, recipe.vocab_size, recipe.template)
        with private_torch(seed, recipe.threads):
            model = new_model(recipe, tokenizer)
            pretrain(model, encode(think_format(tokenizer), dialogues) * TIMES, recipe)
        stops = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        model.generation_config = GenerationConfig(**stops)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def _dialogues(row: dict[str, str | None]) -> list[Dialogue]:
    text = str(row["text"])
    return [Dialogue(text, None, REFUSAL if row["kind"] == "harmful" else ANSWER), Dialogue(text, THOUGHT, ANSWER)]
