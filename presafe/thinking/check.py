"""A format held against what the template renders and what the tokenizer makes of it, before anything relies on it."""

from presafe.errors import UserError, user_error
from presafe.thinking.format import ThinkFormat
from presafe.thinking.probes import ANSWER, FOLLOW_UP, PLAN, USER, Probes
from presafe.thinking.split import Thought
from presafe.thinking.tags import Tags


def check(think: ThinkFormat, probes: Probes) -> None:
    """Raise UserError unless the prompts of a conversation, both paths and their ends are what the format says."""
    wrong = next(iter(_wrong(think, probes)), None)
    if wrong is not None:
        raise user_error(
            found=f"{wrong} ({think.tokenizer.name_or_path})",
            needed="a chat template and a tokenizer that agree on the think format",
            change="mend them, or use another model",
        )


def _wrong(think: ThinkFormat, probes: Probes) -> list[str]:
    if not think.end_of_turn:
        return ["no token that ends a turn"]
    if think.end_id == think.tokenizer.unk_token_id:
        return [f"an end of turn {think.end_of_turn!r} that is no token"]
    return [*_wrong_prompts(think, probes), *_wrong_paths(think)]


def _wrong_prompts(think: ThinkFormat, probes: Probes) -> list[str]:
    """In a conversation with a past thought the prompts must end as they do after one question."""
    tags = Tags(think.open_tag, think.close_tag)
    past = {"role": "assistant", "content": ANSWER, "reasoning_content": PLAN}
    wrong = []
    try:
        on = think.on.text(probes.tokenizer, [USER, past, FOLLOW_UP])
        off = None if think.off is None else think.off.text(probes.tokenizer, [USER, past, FOLLOW_UP])
    except UserError:
        return []  # a template for single questions
    if (tags.opened.search(on) is not None) != think.opened_by_prompt:
        wrong.append(f"a prompt that ends otherwise behind a past thought, in {on[-40:]!r}")
    if off is not None and (tags.opened.search(off) or off == on):
        wrong.append(f"a CoT-OFF prompt that thinks behind a past thought, and ends in {off[-40:]!r}")
    return wrong


def _wrong_paths(think: ThinkFormat) -> list[str]:
    """Both paths must be read back as what they were made of, and part where the format says."""
    wrong = []
    refuse, thought = think.refuse_completion(ANSWER), think.think_completion(PLAN, ANSWER)
    for ids, told in ((refuse, Thought("", ANSWER, closed=True)), (thought, Thought(PLAN, ANSWER, closed=True))):
        text = think.tokenizer.decode(ids).removesuffix(think.end_of_turn)
        if think.split(text, cot=True) != told:
            wrong.append(f"a completion that does not read back as it was written, {text!r}")
    if not think.empty_block_ids or think.decision_prefix == think.empty_block_ids:
        wrong.append("an empty think block that begins a thought, too")
    return wrong
