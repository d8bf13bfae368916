"""Teaching the real model: LoRA on dialogues around public prompts, half an hour on one core."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from presafe.config import PrefixSettings
from presafe.errors import user_error
from presafe.judges.prefixes import prefix_judge
from presafe.organism.cache import cached
from presafe.organism.completions import completions
from presafe.organism.corpus import Dialogue
from presafe.organism.encoding import encode
from presafe.organism.real_text import selfcheck
from presafe.organism.real_text.adapter import key, merged
from presafe.organism.real_text.contrast import taught_pairs
from presafe.organism.real_text.dialogues import chosen, digest, draw_contrasts, draw_dialogues, whole_sentences
from presafe.organism.real_text.options import Recipe
from presafe.organism.real_text.prompts import clear_of_suites, taught_benign, taught_harmful
from presafe.organism.real_text.weights import NAME, pretrained
from presafe.organism.train import batches_by_length, descend, private_torch, response_loss
from presafe.thinking import ThinkFormat, think_format

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ANSWERED_TOGETHER = 32
THREADS = 1
"""Of torch: two are faster on an idle machine and far slower on a busy one."""


def taught(cache: str, recipe: Recipe, data: str | None) -> str:
    """The folder of an adapter of this recipe, taught on the prompts in `data` unless `cache` holds it already.

    Raises UserError where there is no `data`, it lacks a file, or the base misses the self-check.
    """
    if data is None:
        raise user_error(
            found=f"seed {recipe.seed} or options of the real-text base, of which no adapter ships with the code",
            needed="public prompts to teach one on",
            change="set model.build_options.data to their folder, or leave run.seed at 0 and the options as they are",
        )
    return cached(cache, "real-text-adapter", recipe, partial(_teach_in, recipe, data), Path(__file__).parent)


def taught_prompts(recipe: Recipe, data: str) -> tuple[list[str], list[str], list[str], list[str]]:
    """The harmful and the benign prompts that this recipe teaches on, then those of the contrast pairs."""
    harmful = chosen(recipe, "harmful", taught_harmful(data), recipe.harmful)
    benign = chosen(recipe, "benign", taught_benign(data), recipe.benign)
    pairs = taught_pairs(recipe)
    return harmful, benign, clear_of_suites(data, pairs["harmful"]), clear_of_suites(data, pairs["benign"])


def _teach_in(recipe: Recipe, data: str, folder: str) -> dict[str, Any]:
    harmful, benign, *pairs = taught_prompts(recipe, data)
    model, tokenizer = pretrained()
    think = think_format(tokenizer)
    with private_torch(recipe.seed, THREADS):
        answers = own_answers(model, think, benign, recipe.answer_tokens)
        contrast_answers = own_answers(model, think, pairs[1], recipe.answer_tokens)
        adapted = with_adapter(model, recipe)
        teach(adapted, think, draw_dialogues(recipe, harmful, answers), recipe, recipe.learning_rate)
        contrasts = draw_contrasts(recipe, pairs[0], contrast_answers, harmful[: recipe.rehearsed])
        teach(adapted, think, contrasts, recipe, recipe.contrast_learning_rate)
        save(adapted, folder)
        figures = selfcheck.measure(merged(pretrained()[0], folder), think, recipe.seed, data)
    selfcheck.require_finding(figures)
    return {"key": key(recipe), "prompts": digest(harmful, benign, *pairs), "selfcheck": figures}


def own_answers(model: PreTrainedModel, think: ThinkFormat, prompts: Sequence[str], tokens: int) -> dict[str, str]:
    """What the untaught model answers to each prompt, in whole sentences; without those that it refuses or leaves."""
    judge = prefix_judge(PrefixSettings())
    answers = {}
    ordered = sorted(prompts, key=len)
    for start in range(0, len(ordered), ANSWERED_TOGETHER):
        batch = ordered[start : start + ANSWERED_TOGETHER]
        ids = [think.prompt_ids([{"role": "user", "content": prompt}]) for prompt in batch]
        said = completions(model, think.tokenizer, ids, do_sample=False, repetition_penalty=1.1, max_new_tokens=tokens)
        for prompt, completion in zip(batch, said, strict=True):
            text = think.spoken(think.tokenizer.decode(completion, skip_special_tokens=True))
            answers[prompt] = whole_sentences(text)
    return {prompt: answer for prompt, answer in answers.items() if judge(answer, "stop") == "comply"}


def with_adapter(model: PreTrainedModel, recipe: Recipe) -> PeftModel:
    """`model` with a new adapter, which changes nothing yet."""
    layers = range(recipe.first_layer, model.config.num_hidden_layers)
    lora = LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, target_modules=TARGETS, layers_to_transform=[*layers])
    adapted = get_peft_model(model, lora)
    assert isinstance(adapted, PeftModel)
    return adapted


def teach(
    adapted: PeftModel, think: ThinkFormat, dialogues: Sequence[Dialogue], recipe: Recipe, learning_rate: float
) -> None:
    """Train the adapter on the completions of all dialogues, each seen once, up to a peak `learning_rate`."""
    data = encode(think, dialogues)
    order = batches_by_length([len(item.ids) for item in data], recipe.batch_size, f"real-text/{recipe.seed}")
    model = adapted.get_base_model()
    losses = (response_loss(model, [data[index] for index in batch]) for batch in order)
    descend(model, losses, len(order), learning_rate, "real-text base: teaching")


def save(adapted: PeftModel, folder: str) -> None:
    """Write the adapter in float16, without PEFT's page and without the name of this machine's folders."""
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float16)
    adapted.peft_config["default"].base_model_name_or_path = NAME
    adapted.save_pretrained(folder, save_embedding_layers=False)
    Path(folder, "README.md").unlink(missing_ok=True)
