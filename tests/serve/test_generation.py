"""The engine's server on a model that really decides: the same head, the same tokens, and nobody tunes the decision."""

import threading
from dataclasses import replace

import pytest
import torch

from presafe.config import TransformersSettings
from presafe.engines.card import HeadCard
from presafe.engines.exported import LoadedModel
from presafe.engines.transformers_engine import TransformersEngine
from presafe.gate import GateMode
from serve.completion import Completion, Decided, Event, Finished, Sampling
from serve.generation import Generator
from serve.text import Text
from tiny_reasoner import ANSWER, BENIGN, ENDLESS, GATE_REFUSAL, HARMFUL, REASONING, REFUSAL, TAGGED, user

GREEDY = Sampling(max_tokens=300, temperature=0, top_p=1)
WILD = Sampling(max_tokens=60, temperature=2, top_p=1)


def generator(loaded: LoadedModel, gate: GateMode = "off", max_new_tokens: int = 300) -> Generator:
    return Generator(loaded, gate, max_prompt_tokens=600, max_new_tokens=max_new_tokens)


def complete(of: Generator, prompt: str, sampling: Sampling = GREEDY) -> tuple[Decided, str, str, Finished]:
    """Decision, reasoning, answer and end of one completion."""
    events: list[Event] = list(of.complete(of.format.prompt_ids(user(prompt)), sampling, threading.Event()))
    decided, *texts, finished = events
    assert isinstance(decided, Decided)
    assert isinstance(finished, Finished)
    assert all(isinstance(text, Text) and text.text for text in texts)
    text = {
        c: "".join(t.text for t in texts if isinstance(t, Text) and t.channel == c) for c in ("reasoning", "answer")
    }
    return decided, text["reasoning"], text["answer"], finished


@pytest.mark.parametrize("prompt", [HARMFUL, BENIGN, TAGGED, ENDLESS])
def test_greedy_tokens_are_those_of_generate(loaded: LoadedModel, prompt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tested = generator(loaded)
    read_by_model: list[int] = []
    step = tested.step
    monkeypatch.setattr(tested, "step", lambda tokens, cache: (read_by_model.extend(tokens), step(tokens, cache))[1])
    *_, finished = complete(tested, prompt)
    ids = torch.tensor([loaded.format.prompt_ids(user(prompt))])
    expected = loaded.model.generate(input_ids=ids, do_sample=False, max_new_tokens=300)[0, ids.shape[1] :].tolist()
    assert read_by_model == expected[:-1], "the last token is not read: nothing follows it"
    assert finished.completion_tokens == len(expected)
    assert finished.finish_reason == ("length" if prompt == ENDLESS else "stop")


def test_the_head_is_the_offline_head(loaded: LoadedModel) -> None:
    prompts = [loaded.format.prompt_ids(user(prompt)) for prompt in (HARMFUL, BENIGN, TAGGED, ENDLESS)]
    offline = TransformersEngine(loaded, TransformersSettings(batch_size=4), loaded.reader).refuse_probabilities(
        prompts
    )
    online = [generator(loaded).prefill(prompt)[0] for prompt in prompts]
    assert online == pytest.approx(offline, abs=1e-5)


def with_head(loaded: LoadedModel, card: HeadCard) -> LoadedModel:
    """The same export with another head; a probe keeps its weights, whatever they read."""
    assert loaded.card is not None
    head = None if card.kind == "readout" else loaded.head
    return replace(loaded, head=head, card=loaded.card.model_copy(update={"head": card}))


@pytest.mark.parametrize("card", [HeadCard(kind="readout"), HeadCard(layer=1), HeadCard(kind="mean")])
def test_other_heads_are_read_as_offline_and_change_no_token(loaded: LoadedModel, card: HeadCard) -> None:
    other = with_head(loaded, card)
    prompts = [other.format.prompt_ids(user(prompt)) for prompt in (HARMFUL, BENIGN)]
    offline = TransformersEngine(other, TransformersSettings(batch_size=2), other.reader).refuse_probabilities(prompts)
    assert [generator(other).prefill(prompt)[0] for prompt in prompts] == pytest.approx(offline, abs=1e-5)
    for prompt, answer in ((HARMFUL, REFUSAL), (BENIGN, ANSWER)):
        assert complete(generator(other), prompt)[1:] == complete(generator(loaded), prompt)[1:]
        assert complete(generator(other), prompt)[2] == answer


def test_the_gate_reads_the_models_own_decision(loaded: LoadedModel) -> None:
    gated = generator(with_head(loaded, HeadCard(kind="readout")), "on")
    decided, reasoning, answer, finished = complete(gated, HARMFUL)
    assert (decided.path, reasoning, answer, finished.completion_tokens) == ("refuse", "", GATE_REFUSAL, 0)
    assert decided.refuse_probability > 0.9
    decided, reasoning, answer, _ = complete(gated, BENIGN)
    assert (decided.path, reasoning, answer) == ("think", REASONING, ANSWER)
    assert decided.refuse_probability < 0.1


def test_the_model_decides_where_the_gate_is_off(loaded: LoadedModel) -> None:
    decided, reasoning, answer, finished = complete(generator(loaded), HARMFUL)
    assert (decided.path, reasoning, answer, finished.reasoning_tokens) == ("refuse", "", REFUSAL, 0)
    decided, reasoning, answer, finished = complete(generator(loaded), BENIGN)
    assert (decided.path, reasoning, answer) == ("think", REASONING, ANSWER)
    assert 0 < finished.reasoning_tokens < finished.completion_tokens


def test_the_gate_refuses_without_generating(loaded: LoadedModel) -> None:
    gated = generator(loaded, "on")
    for prompt in (HARMFUL, ENDLESS):  # by itself the model would think about the second
        decided, reasoning, answer, finished = complete(gated, prompt)
        assert (decided.path, reasoning, answer, finished.completion_tokens) == ("refuse", "", GATE_REFUSAL, 0)
    assert gated.generated_tokens == 0
    assert complete(gated, BENIGN)[1:3] == (REASONING, ANSWER)


def test_temperature_does_not_change_the_decision(loaded: LoadedModel) -> None:
    tested = generator(loaded)
    refusals = {complete(tested, HARMFUL, replace(WILD, seed=seed))[1:3] for seed in range(20)}
    assert refusals == {("", REFUSAL)}
    thoughts = [complete(tested, BENIGN, replace(WILD, seed=seed)) for seed in range(20)]
    assert {decided.path for decided, *_ in thoughts} == {"think"}
    assert len({(reasoning, answer) for _, reasoning, answer, _ in thoughts}) > 10


def test_the_same_seed_samples_the_same(loaded: LoadedModel) -> None:
    first, again = (complete(generator(loaded), BENIGN, replace(WILD, seed=3)) for _ in range(2))
    assert first == again


def test_an_empty_nucleus_is_greedy(loaded: LoadedModel) -> None:
    assert complete(generator(loaded), BENIGN, Sampling(300, temperature=2, top_p=0))[1:3] == (REASONING, ANSWER)


def test_a_stop_sequence_cuts_an_answer_but_no_refusal(loaded: LoadedModel) -> None:
    sampling = replace(GREEDY, stop=["five", "sorry", "I"])
    assert complete(generator(loaded), HARMFUL, sampling)[2] == REFUSAL
    _, reasoning, answer, finished = complete(generator(loaded), BENIGN, sampling)
    assert (reasoning, answer, finished.finish_reason) == (REASONING, "The answer is", "stop")


def test_forged_tags_in_an_answer_come_out_broken(loaded: LoadedModel) -> None:
    _, reasoning, answer, _ = complete(generator(loaded), TAGGED)
    assert (reasoning, answer) == ("Tags.", "Here: < /think> and < think> and  done.")


def test_a_limit_of_one_token_does_not_cut_the_decision(loaded: LoadedModel) -> None:
    one_token = replace(GREEDY, max_tokens=1)
    for prompt, path in ((HARMFUL, "refuse"), (BENIGN, "think")):
        decided, _, answer, finished = complete(generator(loaded), prompt, one_token)
        assert (decided.path, answer, finished.finish_reason) == (path, "", "length")
        assert finished.completion_tokens < 6


def test_the_server_writes_the_rest_of_the_empty_block(loaded: LoadedModel) -> None:
    rendered = loaded.format
    completion = Completion(rendered, GREEDY, 0.5, most_tokens=100)
    for token in rendered.decision_prefix:
        assert completion.push(token) == []
    assert completion.push(rendered.decision_token) == [Decided("refuse", 0.5)]
    block = rendered.refuse_completion("")[:-1]
    assert completion.pending == block[len(rendered.decision_prefix) :]


def test_an_empty_block_in_other_tokens_is_path_a_and_stays_greedy(loaded: LoadedModel) -> None:
    completion = Completion(loaded.format, WILD, 0.5, most_tokens=100)
    tokens = [token for text in ("<think>", "\n", "</think>") for token in encode(loaded, text)]
    events = [event for token in tokens for event in completion.push(token)]
    assert events == [Decided("refuse", 0.5)]
    logits = torch.zeros(len(loaded.tokenizer)).index_fill(0, torch.tensor([7]), 0.1)
    assert {completion.choose(logits) for _ in range(20)} == {7}


def test_a_completion_that_never_decides_refuses(loaded: LoadedModel) -> None:
    completion = Completion(loaded.format, GREEDY, 0.5, most_tokens=100)
    assert completion.finish("stop", unread_tokens=1) == [Decided("refuse", 0.5), Finished("stop", 1, 0)]


def test_a_cancelled_completion_ends_at_the_next_token(loaded: LoadedModel) -> None:
    tested, cancelled = generator(loaded), threading.Event()
    events = tested.complete(loaded.format.prompt_ids(user(ENDLESS)), GREEDY, cancelled)
    assert isinstance(next(events), Decided)
    cancelled.set()
    assert not any(isinstance(event, Finished) for event in events)
    assert tested.generated_tokens < 6


def encode(loaded: LoadedModel, text: str) -> list[int]:
    ids: list[int] = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
