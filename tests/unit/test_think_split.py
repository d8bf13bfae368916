"""Completions taken apart, whole and while they come: what is decided early is what the whole text decides."""

from functools import cache

import pytest

from family_templates import FAMILIES
from family_tokenizers import with_template
from presafe.config import PrefixSettings
from presafe.judges.prefixes import prefix_judge
from presafe.thinking import think_format

REFUSAL = "I cannot help with that."
HELP = "Sure. First, add two."
SLIPS = {
    "as it should be": "{open}plan\n{close}\n\n{answer}",
    "an empty block": "{open}{close}\n\n{answer}",
    "closed twice": "{open}plan\n{close}\n\n{close}\n\n{answer}",
    "closed three times without a space": "{open}plan\n{close}{close}{close}{answer}",
    "a second empty block": "{open}plan\n{close}\n\n<think>\n\n{close}\n\n{answer}",
    "a second thought": "{open}plan\n{close}\n\n<think>\nI cannot tell yet\n{close}\n\n{answer}",
    "opened twice": "{open}<think>\nplan\n{close}\n\n{answer}",
    "the tag in quotation marks": '{open}cut the text at "{close}" with split\n{close}\n\n{answer}',
    "the tag as code": "{open}call split(`{close}`)\n{close}\n\n{answer}",
    "the tag in a sentence": "{open}then comes {close} and a line break\n{close}\n\n{answer}",
    "closed at the end of a line": "{open}plan.{close}\n\n{answer}",
    "answer tags": "{open}plan\n{close}\n\n<answer>{answer}</answer>",
    "response tags behind a role": "{open}plan\n{close}\n\nAssistant: <response>\n{answer}</response>",
    "a role in front": "{open}plan\n{close}\n\nAssistant: {answer}",
}
CUT = {
    "no closing tag": "{open}I cannot say",
    "the tag only spoken of": '{open}then I write "{close}", and go on',
    "the opening tag again": "{open}plan\n{close}\n\n<think>\nSure, but",
}


@cache
def r1():
    family = FAMILIES["R1-Distill"]
    return think_format(with_template(family.template, family.tokens)), ""


@cache
def qwen3():
    family = FAMILIES["Qwen3"]
    return think_format(with_template(family.template, family.tokens)), "<think>\n"


def written(text: str, opening: str, answer: str) -> str:
    return text.format(open=opening, close="</think>", answer=answer)


@pytest.mark.parametrize("answer", [REFUSAL, HELP], ids=["refuses", "helps"])
@pytest.mark.parametrize("text", SLIPS.values(), ids=SLIPS)
@pytest.mark.parametrize("make", [r1, qwen3])
def test_the_answer_is_what_stands_behind_the_thought_and_its_slips(make, text, answer):
    think, opening = make()
    found = think.split(written(text, opening, answer), cot=True)
    assert (found.answer, found.closed) == (answer, True)
    assert bool(found.reasoning) == (text != SLIPS["an empty block"])


@pytest.mark.parametrize("text", CUT.values(), ids=CUT)
@pytest.mark.parametrize("make", [r1, qwen3])
def test_a_thought_that_was_cut_off_has_no_answer(make, text):
    think, opening = make()
    found = think.split(written(text, opening, ""), cot=True)
    assert (found.answer, found.closed) == ("", False)


@pytest.mark.parametrize("cot", [True, False], ids=["cot on", "cot off"])
@pytest.mark.parametrize("answer", [REFUSAL, HELP], ids=["refuses", "helps"])
@pytest.mark.parametrize("text", [*SLIPS.values(), *CUT.values(), "{answer}", "{close}\n\n{answer}", "\n\n{answer}"])
@pytest.mark.parametrize("make", [r1, qwen3])
def test_an_early_decision_is_the_decision_on_the_whole(make, text, answer, cot):
    think, opening = make()
    judge = prefix_judge(PrefixSettings())
    whole = written(text, opening, answer)
    final = think.split(whole, cot=cot)
    decision = judge(final.answer, "stop" if final.closed else "length")
    for end in range(len(whole)):
        begun = think.split_beginning(whole[:end], cot=cot)
        if begun.closed and judge.decided(begun.answer):
            assert judge(begun.answer, "decided") == decision, whole[:end]
            return


@pytest.mark.parametrize(
    "beginning", ["", "\n\n", "<", "</thi", "</think>", "\n<think>", "<think>\nSure", "<answer", "assist"]
)
def test_nothing_is_decided_inside_a_tag_or_on_white_space(beginning):
    think, _ = r1()
    assert not think.split_beginning(beginning, cot=False).closed
    assert not think.split_beginning(f"plan\n</think>{beginning}", cot=True).closed


def test_an_answer_with_chain_of_thought_off_that_thinks_anyway_shows_it():
    think, _ = r1()
    found = think.split("<think>\nplan\n</think>\n\nIt is 4.", cot=False)
    assert (found.reasoning, found.answer, found.closed) == ("plan", "It is 4.", True)
    assert not think.split("<think>\nplan and", cot=False).closed
