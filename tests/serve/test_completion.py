"""One completion, token by token: the path it is on, what of it is told, and what the server writes itself."""

from dataclasses import replace

import pytest
from completions import GREEDY, JUDGE, OFF, READER, WILD, WITHOUT_A_CARD, encode, parts

from presafe.decision.events import NO_ANSWER, CompletionEvents, Decided, Event, Finished
from presafe.decision.refusal import BEGINNING, RefusalReader
from presafe.decision.rule import GateRule
from presafe.decision.steering import Steering
from presafe.decision.text import Text
from presafe.engines.exported import LoadedModel
from presafe.engines.streaming import EndReason, Step
from tiny_reasoner import ANSWER, GATE_REFUSAL, REFUSAL


def test_the_server_writes_the_rest_of_the_empty_block(loaded: LoadedModel) -> None:
    think, steering = loaded.format, Steering(loaded.format, OFF)
    for token in think.decision_prefix:
        assert steering.forced is None
        steering.push(token)
    steering.push(think.decision_token)
    block = think.empty_block_ids[len(think.decision_prefix) + 1 :]
    for token in block:
        assert steering.forced == token
        steering.push(token)
    assert steering.forced is None
    assert steering.greedy


def test_an_empty_block_in_other_tokens_is_path_a_and_stays_greedy(loaded: LoadedModel) -> None:
    completion, steering = CompletionEvents(loaded.format, WILD, OFF, READER), Steering(loaded.format, OFF)
    tokens = [token for text in ("<think>", "\n", "</think>") for token in encode(loaded, text)]
    assert completion.push(Step(tokens, 0.5)) == [], "what is said behind it decides"
    assert completion.push(Step(encode(loaded, "The"))) == []
    told: list[Event] = []
    while not told:
        told = completion.push(Step(encode(loaded, " answer")))
    assert told[0] == Decided("answer", 0.5)
    for token in tokens:
        steering.push(token)
    assert steering.greedy
    assert steering.forced is None


@pytest.mark.parametrize("written", ["", "<think>\n\n</think>\n\n", "<think>\n\n", " \n"])
@pytest.mark.parametrize("reason", ["stop", "length"])
def test_a_completion_without_a_word_is_refused_in_the_cards_words(
    loaded: LoadedModel, written: str, reason: EndReason
) -> None:
    tokens = encode(loaded, written)
    ended = Step(tokens, 0.5, reason, unread_tokens=1)
    completion = CompletionEvents(loaded.format, GREEDY, OFF, READER)
    assert completion.push(ended) == [
        Decided("refuse", 0.5),
        Text("refusal", GATE_REFUSAL),
        Finished("stop", len(tokens) + 1, 0),
    ]
    completion = CompletionEvents(loaded.format, GREEDY, OFF, WITHOUT_A_CARD)
    decided, *said, finished = completion.push(ended)
    assert (decided, said) == (Decided("answer", 0.5), [Text("answer", NO_ANSWER)])
    assert finished == Finished(reason, len(tokens) + 1, 0)


def test_reasoning_without_an_answer_says_so_unless_the_client_cut_it(loaded: LoadedModel) -> None:
    tokens = encode(loaded, "<think>\nTwo plus three.\n</think>\n\n")
    for sampling, reason, said in (
        (GREEDY, "stop", NO_ANSWER),
        (GREEDY, "length", ""),
        (replace(GREEDY, max_tokens=len(tokens)), None, ""),
    ):
        events = CompletionEvents(loaded.format, sampling, OFF, READER).push(Step(tokens, 0.5, reason))
        decided, reasoning, answer, finished = parts(events)
        assert (decided.path, reasoning, answer) == ("think", "Two plus three.", said)
        assert finished.finish_reason == (reason or "length")


@pytest.mark.parametrize(
    ("said", "path"),
    [
        (REFUSAL, "refuse"),
        ("The gate refuses this.", "refuse"),
        ("The gate refuses", "refuse"),
        ("The gate refusestudents.", "answer"),
        ("The gate", "answer"),
        (ANSWER, "answer"),
        ("42", "answer"),
        ("Je ne peux pas vous aider.", "answer"),
    ],
)
def test_the_path_of_an_empty_block_is_what_is_said_behind_it(loaded: LoadedModel, said: str, path: str) -> None:
    tokens = encode(loaded, f"<think>\n\n</think>\n\n{said}")
    completion = CompletionEvents(loaded.format, GREEDY, OFF, RefusalReader(JUDGE, "The gate refuses"))
    events = [event for k, token in enumerate(tokens) for event in completion.push(Step([token], None if k else 0.5))]
    events += completion.push(Step((), None, "stop", unread_tokens=1))
    decided, reasoning, answer, _ = parts(events)
    assert (decided.path, reasoning, answer) == (path, "", said)


def test_what_tells_no_path_is_held_back_so_far_and_no_further(loaded: LoadedModel) -> None:
    """A card's refusal longer than what is held back: a text that goes along with it stays undecided until then."""
    refusal = "one " * 100
    completion = CompletionEvents(loaded.format, GREEDY, OFF, RefusalReader(JUDGE, refusal.strip()))
    tokens = [*loaded.format.empty_block_ids, *encode(loaded, refusal)]
    told = [completion.push(Step([token], None if k else 0.5)) for k, token in enumerate(tokens)]
    first = next(k for k, events in enumerate(told) if events)
    closed = tokens.index(loaded.tokenizer.convert_tokens_to_ids(loaded.format.close_tag))
    assert first == closed + BEGINNING - 1
    decided, *said = told[first]
    assert decided == Decided("answer", 0.5)
    assert refusal.startswith("".join(text.text for text in said if isinstance(text, Text)))


@pytest.mark.parametrize("rule", [OFF, GateRule("on", 0.1, "cot_off")], ids=["by itself", "though the gate closed it"])
def test_a_thought_behind_an_empty_block_is_reasoning(loaded: LoadedModel, rule: GateRule) -> None:
    thought = "<think>\n\n</think>\n\n<think>\nTwo plus three.\n</think>\n\n"
    tokens = encode(loaded, f"{thought}{ANSWER}")
    completion = CompletionEvents(loaded.format, GREEDY, rule, READER)
    events = [event for k, token in enumerate(tokens) for event in completion.push(Step([token], None if k else 0.5))]
    events += completion.push(Step((), None, "stop", unread_tokens=1))
    decided, reasoning, answer, finished = parts(events)
    assert (decided.path, reasoning, answer) == ("think", "Two plus three.", ANSWER)
    assert finished.reasoning_tokens == len(encode(loaded, thought.rstrip())) - 1, "all but the tag that closes it"


def test_a_drawn_decision_is_free_up_to_the_path_and_forced_behind_it(loaded: LoadedModel) -> None:
    steering = Steering(loaded.format, OFF, (), "drawn")
    assert not steering.greedy
    assert not steering.over
    for token in [*loaded.format.decision_prefix, loaded.format.decision_token]:
        steering.push(token)
    assert steering.forced == loaded.format.empty_block_ids[len(loaded.format.decision_prefix) + 1]
    assert steering.greedy, "the refusal that was decided is the one that is said"


def test_where_there_is_no_decision_to_take_nothing_is_forced(loaded: LoadedModel) -> None:
    steering = Steering(loaded.format, OFF, (), None)
    for token in loaded.format.refuse_completion(REFUSAL):
        assert steering.forced is None
        assert not steering.greedy
        assert steering.over
        steering.push(token)
