"""SmoothLLM (Robey et al. 2023, arXiv 2310.03684) on the decision: copies of a prompt that differ by random characters.

A suffix that was searched for token by token loses its effect where characters change; a request keeps its meaning.
"""

import random
import string
from collections.abc import Sequence

import numpy as np
import torch

from presafe.config.defences import SmoothLLM
from presafe.conversation import Turn, messages
from presafe.defences.score import Reader, Reading, unreadable
from presafe.defences.states import batches, device, positions
from presafe.engines.exported import load_exported
from presafe.engines.job import Task
from presafe.errors import UserError

ALPHABET = string.ascii_letters + string.digits + string.punctuation + " "


def start_smoothllm(settings: SmoothLLM, exported: str, seed: int, *, on_gpu: bool) -> Reader:
    """Reads p' of each copy by the export's own head."""
    loaded = load_exported(exported, device(on_gpu=on_gpu))
    reader, card, most = loaded.reader, loaded.card, positions(loaded.model)
    assert reader is not None
    assert card is not None

    @torch.inference_mode()
    def probabilities(prompts: Sequence[list[int]]) -> list[float]:
        found: dict[int, float] = {}
        for batch in batches([len(ids) for ids in prompts], settings.batch_tokens):
            width = max(len(prompts[place]) for place in batch)
            ids = torch.tensor([[0] * (width - len(prompts[place])) + prompts[place] for place in batch])
            mask = torch.tensor([[0] * (width - len(prompts[k])) + [1] * len(prompts[k]) for k in batch])
            read = reader.read(loaded.model, ids.to(loaded.model.device), mask.to(loaded.model.device))
            found |= dict(zip(batch, read.probabilities, strict=True))
        return [found[place] for place in range(len(prompts))]

    def one(task: Task) -> Reading:
        try:
            copies = [loaded.format.prompt_ids(turns) for turns in changed_copies(settings, seed, task)]
        except UserError as error:  # what one prompt makes of the template costs no other
            return unreadable(str(error))
        longest = max(map(len, copies))
        if longest > most:
            return unreadable(f"prompt of {longest} tokens; the model has {most} positions")
        found = np.array(probabilities(copies))
        score = found.mean() if settings.score == "probability" else (found >= card.threshold).mean()
        return Reading(float(score), sum(map(len, copies)), len(copies))

    return lambda tasks: [one(task) for task in tasks]


def changed_copies(settings: SmoothLLM, seed: int, task: Task) -> list[list[Turn]]:
    """The conversation so often, with the user's turns changed; what is drawn follows from seed, name and task."""
    draw = random.Random(f"{seed}/{settings.name}/{task.task_id}")
    turns = messages(task)
    return [
        [
            {**turn, "content": changed(turn["content"], settings, draw)} if turn["role"] == "user" else turn
            for turn in turns
        ]
        for _ in range(settings.copies)
    ]


def changed(text: str, settings: SmoothLLM, draw: random.Random) -> str:
    """`text` with the share `rate` of its characters swapped, a character put behind each of them, or a run patched."""
    count = round(settings.rate * len(text))
    if settings.change == "patch":
        start = draw.randint(0, len(text) - count)
        return text[:start] + "".join(draw.choices(ALPHABET, k=count)) + text[start + count :]
    places = {*draw.sample(range(len(text)), count)}
    kept = settings.change == "insert"
    return "".join(
        (character if kept else "") + draw.choice(ALPHABET) if place in places else character
        for place, character in enumerate(text)
    )
