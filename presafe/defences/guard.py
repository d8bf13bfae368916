"""A guard model that writes its verdict: the log-odds of unsafe against safe where the verdict's word stands."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import AutoModelForCausalLM

from presafe.config.defences import TEXT, Guard
from presafe.conversation import Turn, messages, transcript
from presafe.defences.score import Reader, Reading, unreadable
from presafe.defences.states import device, last_states
from presafe.engines.job import Task
from presafe.engines.model_files import check_weights, local_weights
from presafe.errors import user_error
from presafe.judges.classifier import classifier_tokenizer
from presafe.runtime import resolved
from presafe.thinking.control import any_of, broken


def check_guard(settings: Guard) -> None:
    """Raise UserError where the model cannot be loaded, has no chat template, or does not tell the words apart."""
    check_weights(resolved(settings.model))
    tokenizer = _tokenizer(settings)
    if settings.prompt is None and not tokenizer.chat_template:
        raise user_error(
            found=f"no chat template in {settings.model}",
            needed="one that makes the guard's input of a conversation",
            change=f"set `prompt` of defence {settings.name!r} to the guard's whole input, with {{text}} in it",
        )
    verdict_tokens(settings, tokenizer)


def verdict_tokens(settings: Guard, tokenizer: Any) -> tuple[list[int], list[int]]:
    """The first tokens of the words for unsafe and for safe, where the verdict stands.

    Raises UserError where a word of the one begins with the token of a word of the other, or has none of its own.
    """
    before = _renderer(settings, tokenizer)(Task("", "", "x", "on", 0))
    begun = _encode(tokenizer, before)
    found: list[list[int]] = []
    for words in (settings.unsafe, settings.safe):
        written = [_encode(tokenizer, before + word) for word in words]
        found.append(sorted({ids[len(begun)] for ids in written if ids[: len(begun)] == begun and ids[len(begun) :]}))
    if not found[0] or not found[1] or {*found[0]} & {*found[1]}:
        raise user_error(
            found=f"unsafe {settings.unsafe} and safe {settings.safe} of defence {settings.name!r}",
            needed=f"words whose first tokens in {settings.model} differ behind {settings.begun!r}",
            change="write them as the guard does, with the space before them",
        )
    return found[0], found[1]


def start_guard(settings: Guard, *, on_gpu: bool) -> Reader:
    """Reads one forward pass a conversation."""
    tokenizer = _tokenizer(settings)
    render, (unsafe, safe) = _renderer(settings, tokenizer), verdict_tokens(settings, tokenizer)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        local_weights(resolved(settings.model)), dtype=getattr(torch, settings.dtype)
    )
    model = loaded.to(device(on_gpu=on_gpu)).eval()

    @torch.inference_mode()
    def read(tasks: Sequence[Task]) -> list[Reading]:
        done: dict[int, Reading] = {}
        prompts: dict[int, list[int]] = {}
        for place, task in enumerate(tasks):
            try:
                ids = _encode(tokenizer, render(task))
            except TemplateError as error:
                done[place] = unreadable(f"a conversation that the guard's template does not take: {error}")
                continue
            if len(ids) > settings.max_tokens:
                done[place] = unreadable(f"prompt of {len(ids)} tokens; the guard takes {settings.max_tokens}")
            else:
                prompts[place] = ids
        if prompts:
            states = last_states(model, [*prompts.values()], settings.batch_tokens)
            logits = model.get_output_embeddings()(states).float()
            found = (logits[:, unsafe].logsumexp(dim=1) - logits[:, safe].logsumexp(dim=1)).tolist()
            done |= {place: Reading(one, len(prompts[place])) for place, one in zip(prompts, found, strict=True)}
        return [done[place] for place in range(len(tasks))]

    return read


def _renderer(settings: Guard, tokenizer: Any) -> Callable[[Task], str]:
    """The guard's input of a conversation, up to the word that decides. No text can write one of its control tokens."""
    control = {text for text in tokenizer.get_added_vocab() if len(text.strip()) > 1}
    pattern = any_of(control) if control else None

    def clean(text: str) -> str:
        return text if pattern is None else broken(text, pattern)

    def render(task: Task) -> str:
        if settings.prompt is not None:
            before = settings.prompt.replace(TEXT, clean(transcript(task)))
        else:
            own: list[Turn] = [] if settings.system is None else [{"role": "system", "content": settings.system}]
            turns = [*own, *({**turn, "content": clean(turn["content"])} for turn in _without_system(messages(task)))]
            before = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return before if before.endswith(settings.begun) else before + settings.begun

    return render


def _without_system(turns: Sequence[Turn]) -> list[Turn]:
    """With what a system message says in front of the first turn: guards' templates take user and assistant alone."""
    if turns[0]["role"] != "system":
        return [*turns]
    first, *rest = turns[1:]
    return [{**first, "content": f"{turns[0]['content']}\n\n{first['content']}"}, *rest]


def _tokenizer(settings: Guard) -> Any:
    return classifier_tokenizer(resolved(settings.model), f"defence {settings.name!r}")


def _encode(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
