"""One search: an attack against one prompt's decision, and the answer to what it found."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from presafe.attacks.adaptive.augmentations import augmentations
from presafe.attacks.adaptive.benign_words import benign_words
from presafe.attacks.adaptive.best_of_n import best_of_n
from presafe.attacks.adaptive.blind_words import blind_words
from presafe.attacks.adaptive.oracle import Oracle, UnaskedError
from presafe.attacks.adaptive.random_words import random_words
from presafe.attacks.adaptive.steering import STEP, steered_answer, steering
from presafe.attacks.adaptive.suffix import suffix
from presafe.attacks.adaptive.target import Target
from presafe.attacks.adaptive.white_box import WhiteBox
from presafe.config import Adaptive, Decoding
from presafe.config.adaptive import AdaptiveAttack
from presafe.conversation import Turn, transcript
from presafe.decision.rule import GateMode, PathTaken
from presafe.engines.engine import Completion
from presafe.records import FinishReason


@dataclass(frozen=True)
class SearchTask:
    """One attack on one prompt, with the gate off or on; `search_id` is unique among all."""

    search_id: str
    prompt_id: str
    attack: AdaptiveAttack
    gate: GateMode
    text: str
    earlier: list[Turn] = field(default_factory=list)


@dataclass(frozen=True)
class Searched:
    """What came of it. `broke_at` is the budget at which the decision broke, None where it held; `text` is the user's
    turn that broke it, and path, reasoning and answer are what the target made of that.

    `spent` is in units of the budget. `error` says why nothing was searched: the engine does not take the prompt.
    """

    search_id: str
    prompt_id: str
    attack: str
    gate: GateMode
    query: str
    broke_at: int | None
    text: str | None
    spent: int
    queries: int
    forward_passes: int
    backward_passes: int
    path: PathTaken | None
    reasoning: str
    answer: str
    finish_reason: FinishReason | None
    num_tokens: int
    error: str | None


@dataclass(frozen=True)
class Against:
    """What searches run against: the model as a client meets it and its weights, each made when it is first needed."""

    settings: Adaptive
    decoding: Decoding
    threshold: float
    seed: int
    target: Callable[[], Target]
    box: Callable[[], WhiteBox]


def searched(task: SearchTask, against: Against) -> Searched:
    """Run one search. It draws by the seed, its attack and the prompt, and so the same with the gate off and on."""
    oracle = Oracle(
        lambda asked: against.target().decisions(asked), task, task.gate, against.threshold, against.settings.budget
    )
    error, answer = None, None
    try:
        answer = _run(task, oracle, against)
    except UnaskedError as refused:
        error = str(refused)
    return Searched(
        search_id=task.search_id,
        prompt_id=task.prompt_id,
        attack=task.attack,
        gate=task.gate,
        query=transcript(task),
        broke_at=oracle.broke_at,
        text=oracle.broke.text if oracle.broke else None,
        spent=oracle.spent,
        queries=oracle.queries,
        forward_passes=oracle.forward_passes,
        backward_passes=oracle.backward_passes,
        path=answer.path if answer else None,
        reasoning=answer.reasoning if answer else "",
        answer=answer.answer if answer else "",
        finish_reason=answer.finish_reason if answer and answer.error is None else None,
        num_tokens=answer.num_tokens if answer else 0,
        error=error,
    )


def _run(task: SearchTask, oracle: Oracle, against: Against) -> Completion | None:
    """Search, then have what broke the decision answered."""
    settings, rng = against.settings, random.Random(f"{against.seed}/{task.attack}/{task.prompt_id}")
    match task.attack:
        case "random_words":
            random_words(oracle, rng)
        case "best_of_n":
            best_of_n(oracle)
        case "augmentations":
            augmentations(oracle, rng)
        case "blind_words":
            blind_words(oracle, rng, settings.sentences)
        case "benign_words":
            benign_words(oracle, rng, settings.sentences)
        case "suffix":
            suffix(oracle, rng, against.box(), settings.suffix_tokens, settings.suffix_width)
        case "steering" | "steering_middle":
            along = steering(oracle, against.box(), middle=task.attack == "steering_middle")
            if oracle.broke_at is None:
                return None
            strength = (oracle.broke_at - 1) * STEP
            box, most = against.box(), against.decoding.max_new_tokens
            answer = steered_answer(box, oracle.prompt, along, strength, most)
            return replace(answer, path=box.path(answer))
    return against.target().answer(oracle.broke) if oracle.broke else None
