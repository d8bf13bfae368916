"""Wrapper augmentation: copies of training prompts inside jailbreak templates."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from presafe.config import NearDuplicates, Wrapper
from presafe.prompts.cluster import Pairs, cluster, cluster_names
from presafe.prompts.load import Template
from presafe.prompts.near import pairs_within, sketch
from presafe.prompts.normalise import dedupe_key, normalise
from presafe.prompts.split import split_clusters
from presafe.records import Prompt, Split, prompt_id

COPY_SPLIT: dict[Split, Split] = {"classifier": "classifier", "validation": "validation", "align": "pool"}
"""A copy of an align prompt trains the signal alone."""


@dataclass(frozen=True)
class Templates:
    """A wrapper's templates: those that wrap any prompt, and those that wrap validation prompts alone."""

    wrapper: Wrapper
    training: list[Template]
    held_out: list[Template]


def divide(wrapper: Wrapper, templates: list[Template], near: NearDuplicates, seed: int) -> Templates:
    """Hold out a share of the templates, with whole clusters of similar ones, so that a held-out one is unseen."""
    texts = {dedupe_key(template.text): template for template in templates}
    unique = list(texts.values())
    bare = [template.text.replace(wrapper.placeholder, " ") for template in unique]
    pairs = pairs_within(sketch(bare, near.shingle_words, near.permutations), near.cluster_threshold)
    found = cluster(len(unique), Pairs.of(pairs), near.cluster_threshold, near.threshold, max_size=len(unique))
    names = cluster_names([template.template_id for template in unique], found.labels)
    wanted = round(wrapper.held_out_share * len(unique))
    sides = split_clusters(names, {"held_out": wanted}, "training", seed)
    by_side = {
        side: [template for template, own in zip(unique, sides, strict=True) if own == side]
        for side in ("training", "held_out")
    }
    return Templates(wrapper, by_side["training"], by_side["held_out"])


def copies(prompts: list[Prompt], templates: Templates, seed: int) -> Iterator[Prompt]:
    """Wrapped copies of `prompts`, which share all but text and split; of a conversation the last turn is wrapped."""
    wrapper = templates.wrapper
    for prompt in prompts:
        if prompt.kind not in wrapper.kinds:
            continue
        rng = random.Random(f"{seed}/{wrapper.name}/{prompt.prompt_id}")
        chosen = rng.sample(templates.training, min(wrapper.copies, len(templates.training)))
        if prompt.split == "validation":
            chosen += rng.sample(templates.held_out, min(wrapper.copies, len(templates.held_out)))
        for template in chosen:
            text = normalise(template.text.replace(wrapper.placeholder, prompt.text))
            yield replace(
                prompt,
                prompt_id=prompt_id(text, prompt.earlier),
                text=text,
                split=COPY_SPLIT[prompt.split],
                wrapper=template.template_id,
            )
