"""The engine on a model that really decides: the same head, the same tokens, and nobody tunes the decision."""

import asyncio
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import replace

import pytest
import torch
from completions import GREEDY, OFF, READER, WILD, parts

from presafe.config import BatchingSettings
from presafe.decision.events import Decided, Event, Finished
from presafe.decision.refusal import BEGINNING
from presafe.decision.rule import GateRule
from presafe.engines.card import HeadCard
from presafe.engines.exported import LoadedModel, load_exported
from presafe.engines.paged_engine import PagedEngine
from presafe.engines.streaming import EngineError, Sampling
from presafe.errors import UserError
from serve.api.chat import Chat
from support import run
from tiny_reasoner import (
    ANSWER,
    BENIGN,
    ENDLESS,
    GATE_REFUSAL,
    HARMFUL,
    REASONING,
    REFUSAL,
    TAGGED,
    THRESHOLD,
    TinyExport,
    user,
)

ROOM = 300
ON = GateRule("on", THRESHOLD, "refusal")
COT_OFF = GateRule("on", THRESHOLD, "cot_off")
SHADOW = GateRule("shadow", THRESHOLD, "refusal")
LINEAR, READOUT = HeadCard(), HeadCard(kind="readout")

Chats = Callable[..., Chat]


@pytest.fixture(scope="module")
def chats(tiny_export: TinyExport) -> Iterator[Chats]:
    """A chat a rule and head, each made once: the engine writes a linear head into the model that it is given."""
    made: dict[tuple[GateRule, HeadCard], Chat] = {}

    def chat(rule: GateRule = OFF, head: HeadCard = LINEAR) -> Chat:
        if (rule, head) not in made:
            loaded = with_head(load_exported(tiny_export.folder), head)
            engine = PagedEngine(loaded, rule, BatchingSettings(max_batch_tokens=64), 1000)
            made[rule, head] = Chat(engine, loaded.format, rule, READER, 60)
        return made[rule, head]

    yield chat
    for each in made.values():
        each.engine.close()


def with_head(loaded: LoadedModel, card: HeadCard) -> LoadedModel:
    """The same export with another head."""
    assert loaded.card is not None
    head = None if card.kind == "readout" else loaded.head
    return replace(loaded, head=head, card=loaded.card.model_copy(update={"head": card}))


async def events_of(chat: Chat, prompt: str, sampling: Sampling = GREEDY) -> list[Event]:
    ids = chat.think.prompt_ids(user(prompt))
    return [event async for _, event in chat.answers(ids, sampling, 1, ROOM)]


def complete(chat: Chat, prompt: str, sampling: Sampling = GREEDY) -> tuple[Decided, str, str, Finished]:
    return parts(run(events_of(chat, prompt, sampling)))


async def tokens_of(chat: Chat, prompt: str, sampling: Sampling, limit: int = ROOM) -> list[int]:
    steps = chat.engine.generate(chat.think.prompt_ids(user(prompt)), sampling, limit)
    return [token async for step in steps for token in step.tokens]


@pytest.mark.parametrize("prompt", [HARMFUL, BENIGN, TAGGED, ENDLESS])
@pytest.mark.parametrize("head", [LINEAR, READOUT])
def test_greedy_tokens_are_those_of_generate(chats: Chats, loaded: LoadedModel, prompt: str, head: HeadCard) -> None:
    generated = run(tokens_of(chats(head=head), prompt, GREEDY))
    ids = torch.tensor([loaded.format.prompt_ids(user(prompt))])
    expected = loaded.model.generate(input_ids=ids, do_sample=False, max_new_tokens=ROOM)[0, ids.shape[1] :].tolist()
    assert generated == [token for token in expected if token not in loaded.stop_ids]


@pytest.mark.parametrize("head", [LINEAR, READOUT])
def test_the_head_is_the_offline_head(chats: Chats, loaded: LoadedModel, head: HeadCard) -> None:
    prompts = (HARMFUL, BENIGN, TAGGED, ENDLESS)
    offline = with_head(loaded, head)
    assert offline.reader is not None
    expected = offline.reader.probabilities(offline.model, [loaded.format.prompt_ids(user(p)) for p in prompts])

    async def online() -> list[float]:
        chat = chats(head=head)
        answered = await asyncio.gather(*(events_of(chat, prompt) for prompt in prompts))
        return [parts(events)[0].refuse_probability for events in answered]

    assert run(online()) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("head", [LINEAR, READOUT])
def test_the_model_decides_where_the_gate_is_off(chats: Chats, head: HeadCard) -> None:
    decided, reasoning, answer, finished = complete(chats(head=head), HARMFUL)
    assert (decided.path, decided.gate_path) == ("refuse", None)
    assert (reasoning, answer, finished.reasoning_tokens) == ("", REFUSAL, 0)
    decided, reasoning, answer, finished = complete(chats(head=head), BENIGN)
    assert (decided.path, reasoning, answer) == ("think", REASONING, ANSWER)
    assert 0 < finished.reasoning_tokens < finished.completion_tokens


def test_the_gate_refuses_without_generating(chats: Chats) -> None:
    gated = chats(ON)
    before = gated.engine.load.generated_tokens
    for prompt in (HARMFUL, ENDLESS):  # by itself the model would think about the second
        decided, reasoning, answer, finished = complete(gated, prompt)
        assert (decided.path, decided.gate_path) == ("refuse", "refuse")
        assert (reasoning, answer, finished.completion_tokens) == ("", GATE_REFUSAL, 0)
    assert gated.engine.load.generated_tokens == before
    assert complete(gated, BENIGN)[1:3] == (REASONING, ANSWER)


def test_a_readout_gate_reads_the_models_own_decision(chats: Chats) -> None:
    gated = chats(ON, READOUT)
    decided, reasoning, answer, finished = complete(gated, HARMFUL)
    assert (decided.path, reasoning, answer, finished.completion_tokens) == ("refuse", "", GATE_REFUSAL, 0)
    assert decided.refuse_probability > 0.9
    decided, reasoning, answer, _ = complete(gated, BENIGN)
    assert (decided.path, reasoning, answer) == ("think", REASONING, ANSWER)
    assert decided.refuse_probability < 0.1


@pytest.mark.parametrize("head", [LINEAR, READOUT])
def test_a_gate_that_closes_the_block_lets_the_cot_off_state_answer(
    chats: Chats, loaded: LoadedModel, head: HeadCard
) -> None:
    gated = chats(COT_OFF, head)
    assert complete(gated, HARMFUL)[1:3] == ("", REFUSAL)
    forced = replace(COT_OFF, threshold=0.0)
    for prompt in (BENIGN, TAGGED):
        ids = loaded.format.prompt_ids(user(prompt), cot=False)
        expected = loaded.model.generate(input_ids=torch.tensor([ids]), do_sample=False, max_new_tokens=40)
        generated = run(tokens_of(chats(forced, head), prompt, WILD))
        assert generated[: len(loaded.format.empty_block_ids)] == loaded.format.empty_block_ids
        answer = [token for token in expected[0, len(ids) :].tolist() if token not in loaded.stop_ids]
        assert generated[len(loaded.format.empty_block_ids) :][: len(answer)] == answer, "greedy, though WILD was asked"


def test_a_gate_in_shadow_decides_and_does_not_act(chats: Chats) -> None:
    decided, reasoning, *_ = complete(chats(SHADOW), ENDLESS)
    assert (decided.path, decided.gate_path) == ("think", "refuse")
    assert reasoning
    assert complete(chats(SHADOW), BENIGN)[0].gate_path == "think"


@pytest.mark.parametrize("probability", [float("nan"), THRESHOLD, 1.0])
def test_the_gate_fails_closed(probability: float) -> None:
    assert ON.refuses(probability)
    assert not ON.refuses(THRESHOLD - 1e-9)
    assert not SHADOW.refuses(probability)
    assert not OFF.refuses(probability)


def test_temperature_does_not_change_the_decision(chats: Chats) -> None:
    async def many(prompt: str) -> list[tuple[Decided, str, str, Finished]]:
        wild = (events_of(chats(), prompt, replace(WILD, seed=seed)) for seed in range(20))
        return [parts(events) for events in await asyncio.gather(*wild)]

    assert {each[1:3] for each in run(many(HARMFUL))} == {("", REFUSAL)}
    thoughts = run(many(BENIGN))
    assert {decided.path for decided, *_ in thoughts} == {"think"}
    assert len({(reasoning, answer) for _, reasoning, answer, _ in thoughts}) > 10


def test_the_same_seed_samples_the_same_alone_and_among_others(chats: Chats) -> None:
    alone = complete(chats(), BENIGN, replace(WILD, seed=3))

    async def among_others() -> list[Event]:
        tasks = [events_of(chats(), prompt, replace(WILD, seed=3)) for prompt in (TAGGED, BENIGN, HARMFUL, ENDLESS)]
        return (await asyncio.gather(*tasks))[1]

    assert parts(run(among_others()))[1:] == alone[1:]


def test_completions_of_one_batch_do_not_disturb_each_other(chats: Chats) -> None:
    prompts = (HARMFUL, BENIGN, TAGGED, ENDLESS)
    alone = {prompt: complete(chats(), prompt)[1:] for prompt in prompts}

    async def together() -> list[list[Event]]:
        return await asyncio.gather(*(events_of(chats(), prompt) for prompt in prompts * 8))

    for prompt, events in zip(prompts * 8, run(together()), strict=True):
        assert parts(events)[1:] == alone[prompt]


def test_an_empty_nucleus_is_greedy(chats: Chats) -> None:
    assert complete(chats(), BENIGN, Sampling(300, temperature=2, top_p=0))[1:3] == (REASONING, ANSWER)


def test_a_stop_sequence_cuts_an_answer_but_no_refusal(chats: Chats) -> None:
    sampling = replace(GREEDY, stop=["five", "sorry", "I"])
    assert complete(chats(), HARMFUL, sampling)[2] == REFUSAL
    _, reasoning, answer, finished = complete(chats(), BENIGN, sampling)
    assert (reasoning, answer, finished.finish_reason) == (REASONING, "The answer is", "stop")


def test_forged_tags_in_an_answer_come_out_broken(chats: Chats) -> None:
    _, reasoning, answer, _ = complete(chats(), TAGGED)
    assert (reasoning, answer) == ("Tags.", "Here: < /think> and < think> and  done.")


def test_a_limit_of_one_token_does_not_cut_the_decision(chats: Chats) -> None:
    one_token = replace(GREEDY, max_tokens=1)
    decided, _, answer, finished = complete(chats(), BENIGN, one_token)
    assert (decided.path, answer, finished.finish_reason) == ("think", "", "length")
    assert finished.completion_tokens < 6
    decided, _, answer, finished = complete(chats(), HARMFUL, one_token)
    assert (decided.path, finished.finish_reason) == ("refuse", "length")
    assert answer
    assert REFUSAL.startswith(answer), "as far as it takes to tell a refusal"
    assert finished.completion_tokens < len(chats().think.empty_block_ids) + BEGINNING


def test_several_choices_are_on_one_path(chats: Chats) -> None:
    async def choices(prompt: str) -> dict[int, list[Event]]:
        ids, found = chats().think.prompt_ids(user(prompt)), dict[int, list[Event]]()
        async for index, event in chats().answers(ids, replace(WILD, seed=1), 4, ROOM):
            found.setdefault(index, []).append(event)
        return found

    refusals = [parts(events) for events in run(choices(HARMFUL)).values()]
    assert [refusal[2] for refusal in refusals] == [REFUSAL] * 4
    assert [refusal[3].completion_tokens > 0 for refusal in refusals] == [True, False, False, False], "generated once"
    thoughts = [parts(events) for events in run(choices(BENIGN)).values()]
    assert {decided.path for decided, *_ in thoughts} == {"think"}
    assert len({(reasoning, answer) for _, reasoning, answer, _ in thoughts}) > 1
    assert complete(chats(), BENIGN, replace(WILD, seed=2))[1:3] in [thought[1:3] for thought in thoughts]


def test_closing_a_completion_stops_its_generation(chats: Chats) -> None:
    engine = chats().engine
    before = engine.load.generated_tokens

    async def leave() -> None:
        steps = engine.generate(chats().think.prompt_ids(user(ENDLESS)), GREEDY, 5000)
        async with aclosing(steps):
            await anext(steps)
        assert engine.load.running == 0

    run(leave())
    assert complete(chats(), HARMFUL)[2] == REFUSAL
    assert engine.load.generated_tokens - before < 200


def test_prompts_that_fill_the_cache_wait_and_none_is_lost(tiny_export: TinyExport) -> None:
    loaded = load_exported(tiny_export.folder)
    settings = BatchingSettings(kv_cache_tokens=480, page_size=16, max_batch_tokens=64)
    engine = PagedEngine(loaded, OFF, settings, 380)
    chat = Chat(engine, loaded.format, OFF, READER, 120)
    try:

        async def crowd() -> list[list[Event]]:
            return await asyncio.gather(*(events_of(chat, prompt) for prompt in (ENDLESS, BENIGN, HARMFUL) * 4))

        for prompt, events in zip((ENDLESS, BENIGN, HARMFUL) * 4, run(crowd()), strict=True):
            _, reasoning, answer, finished = parts(events)
            if prompt == ENDLESS:
                assert finished.completion_tokens == 300
            else:
                assert (reasoning, answer) == ((REASONING, ANSWER) if prompt == BENIGN else ("", REFUSAL))
        engine.check()
    finally:
        engine.close()


def test_a_cache_too_small_for_one_conversation_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(UserError, match=r"kv_cache_tokens=100.*at least"):
        PagedEngine(loaded, OFF, BatchingSettings(kv_cache_tokens=100), 1000)


def test_a_dead_engine_says_so(tiny_export: TinyExport) -> None:
    loaded = load_exported(tiny_export.folder)
    engine = PagedEngine(loaded, OFF, BatchingSettings(), 1000)
    chat = Chat(engine, loaded.format, OFF, READER, 60)
    engine.check()
    loaded.model.lm_head.weight.data = loaded.model.lm_head.weight.data[:, :-1]  # the next forward pass raises
    with pytest.raises(EngineError):
        complete(chat, BENIGN)
    with pytest.raises(EngineError):
        complete(chat, BENIGN)
    with pytest.raises(EngineError, match="died"):
        engine.check()


def test_a_completion_that_takes_too_long_is_told(chats: Chats) -> None:
    slow = dataclasses.replace(chats(), timeout_s=0.05)
    with pytest.raises(TimeoutError):
        complete(slow, ENDLESS, replace(GREEDY, max_tokens=299))
    assert complete(chats(), HARMFUL)[2] == REFUSAL
