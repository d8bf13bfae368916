"""Text that comes in pieces: the same as taking the whole apart, whatever the pieces."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presafe.decision.text import CompletionText, Detokeniser, Text
from presafe.organism.corpus import Dialogue
from presafe.organism.tokenizer import train_tokenizer
from presafe.thinking import ThinkFormat, think_format

COMPLETIONS = {
    "qwen3": [
        "<think>\nsome thought, 1 < 2\n</think>\n\nAn answer.\n",
        "<think>\n\n</think>\n\nSorry, no.",
        "<think>\ncut off in the mid",
        "<think>\ncut off in the </thi",
        "\n  <think>x</think>y",
        "Straight to the answer <b>",
        "</think>\n\nclosed at once",
        "<thin",
        "",
    ],
    "r1": [
        "some thought\n</think>\n\nAn answer.",
        "\n</think>\n\nSorry, no.",
        "cut off </th",
        "",
    ],
}


@pytest.fixture(scope="module", params=["qwen3", "r1"])
def rendered(request: pytest.FixtureRequest) -> ThinkFormat:
    tokenizer = train_tokenizer([Dialogue("a prompt", "a thought", "an answer")], 300, request.param)
    return think_format(tokenizer)


def taken_apart(rendered: ThinkFormat, pieces: list[str], stop: list[str]) -> tuple[str, str]:
    text = CompletionText(rendered, stop)
    found: list[Text] = []
    for piece in pieces:
        found += text.push(piece)
    found += text.finish()
    reasoning, answer = ("".join(t.text for t in found if t.channel == c) for c in ("reasoning", "answer"))
    return reasoning, answer


def in_pieces(text: str, size: int) -> list[str]:
    return [text[k : k + size] for k in range(0, len(text), size)]


def test_pieces_of_any_size_are_taken_apart_like_the_whole(rendered: ThinkFormat) -> None:
    for completion in COMPLETIONS["r1" if rendered.opened_by_prompt else "qwen3"]:
        whole = rendered.split(completion, cot=True)
        for size in range(1, len(completion) + 2):
            assert taken_apart(rendered, in_pieces(completion, size), []) == (whole.reasoning, whole.answer)


SLIPS = {
    "closed twice": "plan\n</think>\n\n</think>\n\nNo.",
    "an empty block behind": "plan\n</think>\n\n<think>\n\n</think>\n\nNo.",
    "another thought behind": "plan\n</think>\n\n<think>\nmore\n</think>\n\nNo.",
    "a thought behind an empty block": "\n</think>\n\n<think>\nmore\n</think>\n\nNo.",
    "opened twice": "<think>\nplan\n</think>\n\nNo.",
    "answer tags": "plan\n</think>\n\n<answer>\nNo.\n</answer>\n",
    "an answer tag that stays": "plan\n</think>\n\nthe </answer> tag",
    "a role": "plan\n</think>\n\nASSISTANT: <response>No.</response>",
    "a role alone": "plan\n</think>\n\nAssistant",
    "nothing behind": "plan\n</think>\n\n</think>",
}


@pytest.mark.parametrize("text", SLIPS.values(), ids=SLIPS)
def test_slips_in_front_of_the_answer_are_left_out_as_from_the_whole(rendered: ThinkFormat, text: str) -> None:
    completion = text if rendered.opened_by_prompt else f"<think>\n{text}"
    whole = rendered.split(completion, cot=True)
    for size in range(1, len(completion) + 1):
        assert taken_apart(rendered, in_pieces(completion, size), []) == (whole.reasoning, whole.answer)


@pytest.mark.parametrize("quotes", ['""', "``", "\u201c\u201d"])
def test_a_tag_in_quotation_marks_ends_no_thought(rendered: ThinkFormat, quotes: str) -> None:
    completion = f"cut at {quotes[0]}</think>{quotes[1]} then\n</think>\n\nNo."
    completion = completion if rendered.opened_by_prompt else f"<think>\n{completion}"
    for size in range(1, len(completion) + 1):
        broken = f"cut at {quotes[0]}< /think>{quotes[1]} then"
        assert taken_apart(rendered, in_pieces(completion, size), []) == (broken, "No.")


PARTS = [
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "</response>",
    "Assistant:",
    '"',
    "\n",
    " ",
    "a",
    "b c",
    "<",
    "th",
]


@settings(max_examples=400, deadline=None)
@given(parts=st.lists(st.sampled_from(PARTS), max_size=14), size=st.integers(1, 9))
def test_any_completion_is_taken_apart_like_the_whole(rendered: ThinkFormat, parts: list[str], size: int) -> None:
    completion = "".join(parts)
    if not rendered.opened_by_prompt:
        completion = f"<think>{completion}"
    whole = replace(rendered.splitter(cot=True), own_line=False).whole(completion)
    reasoning, answer = taken_apart(rendered, in_pieces(completion, size), [])
    assert answer.replace("< ", "<") == whole.answer.replace("< ", "<")
    assert words(reasoning) == words(whole.reasoning)


def words(reasoning: str) -> str:
    """Without the opening tags, which stay in a thought as text, and white space, which they part."""
    return "".join(reasoning.replace("< think>", "").split())


def test_a_tag_where_none_belongs_is_broken(rendered: ThinkFormat) -> None:
    opening = "" if rendered.opened_by_prompt else "<think>"
    completion = f"{opening}a <think> b</think>c </think> d <th<think>ink> </</think>think> e"
    for size in range(1, len(completion) + 1):
        reasoning, answer = taken_apart(rendered, in_pieces(completion, size), [])
        assert reasoning == "a < think> b"
        assert answer == "c < /think> d <th< think>ink> </< /think>think> e"


def test_a_stop_sequence_ends_the_answer_but_not_the_reasoning(rendered: ThinkFormat) -> None:
    opening = "" if rendered.opened_by_prompt else "<think>"
    completion = f"{opening}not END here</think>\n\nkept text \n END dropped END"
    for size in range(1, len(completion) + 1):
        for stop in (["END"], ["\n END"], ["never", "END"]):
            assert taken_apart(rendered, in_pieces(completion, size), stop) == ("not END here", "kept text")


def test_a_stop_sequence_does_not_cut_a_refusal(rendered: ThinkFormat) -> None:
    completion = f"{rendered.empty_block}I cannot help."
    for size in range(1, len(completion) + 1):
        assert taken_apart(rendered, in_pieces(completion, size), ["not", "I"]) == ("", "I cannot help.")


def test_characters_come_whole_and_special_tokens_not_at_all(rendered: ThinkFormat) -> None:
    text = "voilà 🛟 ✋ 한 done"
    tokens = rendered.tokenizer(f"<|im_start|>{text}<|endoftext|> <think>", add_special_tokens=False)["input_ids"]
    detokeniser = Detokeniser(rendered)
    pieces = [detokeniser.push(token) for token in tokens]
    assert "".join(pieces) == f"{text} <think>"
    assert not any("\ufffd" in piece for piece in pieces)
    assert pieces.count("") > 2, "the characters are single tokens: the test shows nothing"


def test_an_unfinished_character_is_dropped(rendered: ThinkFormat) -> None:
    tokens = rendered.tokenizer("ok 🛟", add_special_tokens=False)["input_ids"]
    detokeniser = Detokeniser(rendered)
    assert "".join(detokeniser.push(token) for token in tokens[:-1]).strip() == "ok"
