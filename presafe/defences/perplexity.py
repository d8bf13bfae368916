"""The perplexity filter (Jain et al. 2023, arXiv 2309.00614): how improbable a prompt's text is to the base."""

from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy

from presafe.config.defences import Perplexity
from presafe.conversation import transcript
from presafe.defences.score import Reader, Reading, unreadable
from presafe.defences.states import batches, device, hidden_states, positions
from presafe.engines.exported import LoadedModel, load_base
from presafe.engines.job import Task
from presafe.engines.start import ModelSpec
from presafe.errors import UserError


def start_perplexity(settings: Perplexity, spec: ModelSpec, *, on_gpu: bool) -> Reader:
    """Reads one forward pass of the base a conversation."""
    loaded = load_base(spec.base, spec.dtype, device(on_gpu=on_gpu), spec.think)
    most = positions(loaded.model)

    @torch.inference_mode()
    def read(tasks: Sequence[Task]) -> list[Reading]:
        done: dict[int, Reading] = {}
        texts: dict[int, list[int]] = {}
        for place, task in enumerate(tasks):
            try:
                ids = text_ids(loaded, task)
            except UserError as error:  # a text that stays unreadable costs no other
                done[place] = unreadable(str(error))
                continue
            if 2 <= len(ids) <= most:
                texts[place] = ids
            else:
                done[place] = unreadable(f"prompt of {len(ids)} tokens; a perplexity needs 2 to {most}")
        places = [*texts]
        for batch in batches([len(texts[place]) for place in places], settings.batch_tokens):
            chosen = [places[k] for k in batch]
            states = hidden_states(loaded.model, [texts[place] for place in chosen])
            for row, place in enumerate(chosen):
                wanted = torch.tensor(texts[place][1:], device=states.device)
                logits = loaded.model.get_output_embeddings()(states[row, : len(wanted)]).float()
                losses = cross_entropy(logits, wanted, reduction="none")
                done[place] = Reading(score(losses, settings.window), len(texts[place]))
        return [done[place] for place in range(len(tasks))]

    return read


def score(losses: torch.Tensor, window: int | None) -> float:
    """The mean of the tokens' losses [n], or the highest of so many in a row."""
    if window is None or window >= len(losses):
        return losses.mean().item()
    return losses.unfold(0, window, 1).mean(dim=1).max().item()


def text_ids(loaded: LoadedModel, task: Task) -> list[int]:
    """The conversation's text without its chat template, behind the token that begins a text where there is one."""
    tokenizer = loaded.tokenizer
    text = loaded.format.neutralise(loaded.format.without_control(transcript(task)))
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    first = tokenizer.bos_token_id
    return [first, *ids] if isinstance(first, int) else ids
