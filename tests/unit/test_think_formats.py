"""One test a family of 2025-26: what is read off its chat template, token by token; and what is refused."""

import pytest

from family_templates import CHANNELS, FAMILIES, NO_FORMAT, RAISING, Family
from family_tokenizers import qwen3, r1_llama, r1_qwen, with_template
from presafe.config import Think
from presafe.errors import UserError
from presafe.thinking import ThinkFormat, think_format

ASK = [{"role": "user", "content": "add 2"}]
PAST = [*ASK, {"role": "assistant", "content": "It is 4."}, {"role": "user", "content": "and 3?"}]
TAGS = [
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</think>",
    "<judge>",
    "</judge>",
    "<bot>",
    "</bot>",
    "<musing>",
    "</musing>",
]


def of(family: Family) -> ThinkFormat:
    return think_format(with_template(family.template, family.tokens))


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_family_is_read_off_its_template(family):
    think = of(family)
    decode = think.tokenizer.decode
    assert (think.open_tag, think.opened_by_prompt, think.switch) == (family.open, family.opened, family.switch)
    for messages in (ASK, PAST):
        on, off = (decode(think.prompt_ids(messages, cot=cot)) for cot in (True, False))
        assert on.endswith(family.on)
        assert off.endswith(family.off)
    refuse, thought = think.refuse_completion("A"), think.think_completion("T", "A")
    assert decode(refuse) == family.a
    assert decode(thought) == family.b
    assert decode([think.decision_token]) == family.decision
    shared = len(think.decision_prefix)
    assert refuse[:shared] == thought[:shared] == think.decision_prefix
    assert refuse[shared] == think.decision_token != thought[shared]
    assert refuse[-1] == thought[-1] == think.end_id


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_what_is_written_is_read_back(family):
    think = of(family)
    for ids, told in (
        (think.refuse_completion("no."), ("", "no.")),
        (think.think_completion("a\n\nb", "it."), ("a\n\nb", "it.")),
    ):
        text = think.tokenizer.decode(ids[:-1])
        found = think.split(text, cot=True)
        assert (found.reasoning, found.answer, found.closed) == (*told, True)
    cut = think.tokenizer.decode(think.primer_completion("a thought"))
    assert (think.split(cut, cot=True).answer, think.split(cut, cot=True).closed) == ("", False)


@pytest.mark.parametrize("tokenizer", [r1_qwen(), r1_llama()], ids=["R1-Distill-Qwen", "R1-Distill-Llama"])
def test_the_recipes_r1_models_token_by_token(tokenizer):
    think = think_format(tokenizer)
    ids = tokenizer.convert_tokens_to_ids
    assert think.prompt_ids(ASK)[-3:] == [ids("<｜Assistant｜>"), ids("<think>"), ids("Ċ")]
    assert think.empty_block_ids == [ids("Ċ"), ids("</think>"), ids("ĊĊ")]
    assert (think.decision_prefix, think.decision_token) == ([], ids("Ċ"))
    assert think.end_id == tokenizer.eos_token_id


def test_the_recipes_qwen3_models_token_by_token():
    tokenizer = qwen3()
    think = think_format(tokenizer)
    ids = tokenizer.convert_tokens_to_ids
    assert think.prompt_ids(ASK)[-1] == ids("Ċ")
    assert think.empty_block_ids == [ids("<think>"), ids("ĊĊ"), ids("</think>"), ids("ĊĊ")]
    assert (think.decision_prefix, think.decision_token) == ([ids("<think>")], ids("ĊĊ"))
    assert think.end_id == ids("<|im_end|>")


@pytest.mark.parametrize("template", NO_FORMAT.values(), ids=NO_FORMAT)
def test_what_proves_no_think_format_is_refused(template):
    with pytest.raises(UserError, match=r"found a (prompt that ends in|template that puts answers).*model\.think"):
        think_format(with_template(template, TAGS))


@pytest.mark.parametrize(("name", "template"), CHANNELS.items(), ids=CHANNELS)
def test_channel_formats_are_refused_by_name(name, template):
    with pytest.raises(UserError, match=f"channel format of {name}"):
        think_format(with_template(template, TAGS))


@pytest.mark.parametrize(("told", "beginning"), RAISING.items(), ids=RAISING)
def test_a_template_that_raises_is_one_sentence(told, beginning):
    family = FAMILIES["QwQ, Qwen3-Thinking-2507"]
    with pytest.raises(UserError, match=told):
        think_format(with_template(beginning + family.template, family.tokens))


def test_an_unknown_tag_is_taken_where_past_thoughts_in_it_are_left_out():
    family = FAMILIES["EXAONE-Deep"]
    template = family.template.replace("thought>", "musing>")
    think = think_format(with_template(template, [*family.tokens, "<musing>", "</musing>"]))
    assert (think.open_tag, think.close_tag, think.opened_by_prompt) == ("<musing>", "</musing>", True)


def test_the_config_can_say_what_a_template_does_not_show():
    template = NO_FORMAT["Qwen3-Instruct-2507"]
    told = Think(open="<plan>", close="</plan>", opened_by_prompt=False, empty_block="<plan></plan>\n")
    think = think_format(with_template(template, [*TAGS, "<plan>", "</plan>"]), told)
    assert think.tokenizer.decode(think.refuse_completion("A")) == "<plan></plan>\nA<|im_end|>"
    assert think.tokenizer.decode(think.prompt_ids(ASK, cot=False)).endswith("assistant\n<plan></plan>\n")
    with pytest.raises(UserError, match="opened_by_prompt=True and a prompt that ends in"):
        think_format(think.tokenizer, told.model_copy(update={"opened_by_prompt": True}))


def test_arguments_of_the_template_that_the_config_names_are_given():
    family = FAMILIES["DeepSeek-V3.1"]
    told = Think(open="<think>", close="</think>", opened_by_prompt=True, template_kwargs={"thinking": True})
    think = think_format(with_template(family.template, family.tokens), told)
    assert think.tokenizer.decode(think.prompt_ids(ASK)).endswith(family.on)


def test_no_user_can_turn_thinking_off_in_the_text():
    think = of(FAMILIES["Nemotron-Nano-v2"])
    prompt = think.prompt_ids([{"role": "user", "content": "add 2 /no_think"}])
    assert think.tokenizer.decode(prompt).endswith("<think>\n")
    assert think.without_control("add 2 /no_think") == "add 2"
