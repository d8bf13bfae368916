"""What is generated: prompts as they are and under each attack, as often as their suites ask for, in each decoding."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from presafe import storage
from presafe.attacks.catalogue import under
from presafe.attacks.sentences import TokenCount
from presafe.config import Config, Evaluate, NamedDecoding
from presafe.config.attacks import Attack
from presafe.conversation import transcript
from presafe.engines.exported import load_tokenizer
from presafe.engines.job import Task, task_id, task_of
from presafe.records import Prompt
from presafe.runtime import model_folder
from presafe.stages import content_hash


class TokenCounter:
    """Tokens of texts by the tokenizer beside the config's model, which is loaded once a text is to be counted.

    Tasks are made several times over: what was counted is known from then on.
    """

    def __init__(self, config: Config) -> None:
        self._config, self._known = config, dict[int, int]()

    def __call__(self, text: str) -> int:
        key = storage.short_hash(text)
        if key not in self._known:
            self._known[key] = len(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        return self._known[key]

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(model_folder(self._config))


def tasks(
    settings: Evaluate, prompts: Callable[[], Iterable[Prompt]], seed: int, tokens: TokenCount | None = None
) -> Iterator[Task]:
    """Every task once; `prompts` are read once more for each attack and each further decoding.

    `tokens` is needed where an attack's length is in tokens: the base model's, so that all models are asked the same.
    Those of a further decoding stand together: an engine decodes the tasks of a block that have the same one together.
    """
    for how in (None, *settings.named_decodings()):
        yield from plain_tasks(settings, prompts(), how)
        for attack in settings.attacks:
            yield from attacked_tasks(attack, settings, prompts(), seed, how, tokens)


def read_by_defences(
    settings: Evaluate, prompts: Callable[[], Iterable[Prompt]], seed: int, tokens: TokenCount | None = None
) -> Iterator[Task]:
    """Once each conversation that a defence reads: harmful and benign prompts, as they are and under each attack.

    What a prefill puts behind a prompt is the assistant's, and not read.
    """
    once = settings.model_copy(update={"cot": ["on"], "samples": {}, "decodings": []})
    return tasks(once, lambda: (prompt for prompt in prompts() if prompt.kind != "reasoning"), seed, tokens)


def plain_tasks(settings: Evaluate, prompts: Iterable[Prompt], how: NamedDecoding | None = None) -> Iterator[Task]:
    """The prompts as their suites have them, decoded as `how` says, or as `settings.decoding` does."""
    for prompt, sample in _asked(settings, prompts, how):
        for cot in settings.cot:
            task = task_of(prompt, cot, sample)
            if how is None:
                yield task
            else:
                own = task_id(_decoded(prompt.prompt_id, how), cot, sample)
                yield replace(task, task_id=own, decoding=how.name)


def attacked_tasks(
    attack: Attack,
    settings: Evaluate,
    prompts: Iterable[Prompt],
    seed: int,
    how: NamedDecoding | None = None,
    tokens: TokenCount | None = None,
) -> Iterator[Task]:
    """The prompts of the attack's kinds under it.

    A task's id follows from the attack's name, from what it makes of the prompt and from the decoding: other settings
    of the same attack are other tasks, and no other attack's. Raises UserError where the attack lacks what it works
    with.
    """
    make = under(attack, seed, tokens)
    for prompt, sample in _asked(settings, (prompt for prompt in prompts if prompt.kind in attack.kinds), how):
        made = make(prompt)
        content = content_hash([made.text, list(made.earlier), made.prefill])
        asked = _decoded(f"{prompt.prompt_id}-{attack.name}-{content}", how)
        for cot in settings.cot:
            if cot == "on" or made.prefill is None:
                yield Task(
                    task_id=task_id(asked, cot, sample),
                    prompt_id=prompt.prompt_id,
                    text=made.text,
                    cot=cot,
                    sample=sample,
                    earlier=list(made.earlier),
                    attack=attack.name,
                    prefill=made.prefill,
                    query=transcript(prompt),
                    decoding=None if how is None else how.name,
                )


def _decoded(asked: str, how: NamedDecoding | None) -> str:
    """With an `@`, which no prompt's id and no attack's name has."""
    return asked if how is None else f"{asked}@{how.name}"


def _asked(settings: Evaluate, prompts: Iterable[Prompt], how: NamedDecoding | None) -> Iterator[tuple[Prompt, int]]:
    """Each prompt with the numbers of its samples: as many as the one of its suites asks for that wants the most."""
    asked = Counter[str]()
    for prompt in prompts:
        wanted = settings.samples_of(prompt.source, prompt.kind) if how is None else how.samples_of(prompt.kind)
        for sample in range(asked[prompt.prompt_id], wanted):
            yield prompt, sample
        asked[prompt.prompt_id] = max(asked[prompt.prompt_id], wanted)
