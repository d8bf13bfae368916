"""Reading a think format off a chat template, by rendering; what cannot be proven is refused (docs/models.md)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from presafe.config import Think
from presafe.errors import UserError, user_error
from presafe.thinking.check import check
from presafe.thinking.format import ThinkFormat
from presafe.thinking.probes import USER, Probes
from presafe.thinking.render import NO_SWITCH, SWITCHES, Rendering, Switch
from presafe.thinking.tags import CHANNELS, KNOWN, Tags, unknown_tags
from presafe.thinking.white_space import Seen, seen_of, shows_block

if TYPE_CHECKING:  # it imports torch, which who only deploys a model does not need
    from transformers import PreTrainedTokenizerBase

EXPLICIT = "model.think: {open, close, opened_by_prompt, empty_block, template_kwargs}"

ANSWER_BLOCK = "a template that puts answers into a block of their own"


@dataclass(frozen=True)
class Proof:
    """What turns thinking off, the tags around a thought, and the template's CoT-OFF prompt of `USER`, if any."""

    switch: Switch
    tags: Tags
    off: str | None


def think_format(tokenizer: "PreTrainedTokenizerBase", told: Think | None = None) -> ThinkFormat:
    """Read the think format off `tokenizer`'s chat template, or take what the user has `told` of it.

    Raises UserError where the tokenizer has no chat template, the template raises, or no think format can be proven.
    """
    base = Probes(tokenizer, NO_SWITCH.on)
    _check_template(base)
    if told is not None:
        return _told_format(base, told)
    proof = next(_proofs(base), None)
    if proof is None:
        raise _refusal(base, f"a prompt that ends in {base.prompt[-40:]!r} and no sign of a think block")
    probes = Probes(tokenizer, proof.switch.on)
    seen = seen_of(probes, proof.tags, proof.off)
    if seen is None:
        raise _refusal(base, ANSWER_BLOCK)
    found = _format(probes, proof, seen)
    check(found, probes)
    return found


def _told_format(base: Probes, told: Think) -> ThinkFormat:
    """The format that the config describes, as far as rendering does not contradict it."""
    tags, switch = Tags(told.open, told.close), Switch("model.think", Rendering(told.template_kwargs), NO_SWITCH.off)
    probes = Probes(base.tokenizer, switch.on)
    if (tags.opened.search(probes.prompt) is not None) != told.opened_by_prompt:
        end = probes.prompt[-40:]
        raise user_error(
            found=f"model.think.opened_by_prompt={told.opened_by_prompt} and a prompt that ends in {end!r}",
            needed="what the template renders",
            change="correct model.think or its template_kwargs",
        )
    seen = seen_of(probes, tags, None)
    if seen is None:
        raise _refusal(base, ANSWER_BLOCK)
    if told.empty_block is not None:
        seen = replace(seen, block=told.empty_block, gap="")
    found = _format(probes, Proof(switch, tags, None), seen)
    check(found, probes)
    return found


def _check_template(base: Probes) -> None:
    tokenizer = base.tokenizer
    if not tokenizer.chat_template:
        raise user_error(
            found=f"a tokenizer without a chat template ({tokenizer.name_or_path})",
            needed="the chat template of a reasoning model",
            change="point model.path at a model that ships one",
        )
    try:
        template = base.template
    except ValueError as error:
        raise user_error(
            found=f"chat templates by name without a default one ({tokenizer.name_or_path})",
            needed="one that is used where none is asked for",
            change="write it to chat_template.jinja in the model's folder",
        ) from error
    for mark, whose in CHANNELS.items():
        if mark in template:
            raise user_error(
                found=f"the channel format of {whose} ({tokenizer.name_or_path})",
                needed="a think block, which can be left empty",
                change="use a model that thinks in one",
            )
    assert base.prompt  # a template that does not render raises here


def _proofs(base: Probes) -> Iterator[Proof]:
    """Every proof there is, the strongest kind of evidence first within each switch."""
    for switch in SWITCHES:
        yield from _switched(base, switch)
    yield from _unswitched(base)


def _switched(base: Probes, switch: Switch) -> Iterator[Proof]:
    """Thinking off differs from thinking on: by a block left empty, or by the block or the words that ask for one."""
    probes = Probes(base.tokenizer, switch.on)
    try:
        on = probes.prompt
    except UserError:
        return
    try:
        off = switch.off.text(base.tokenizer, [USER])
    except UserError as error:
        if switch is SWITCHES[0]:
            raise _refusal(base, f"a template that refuses {switch.name}: {error.__cause__}") from error
        return
    if on == off:
        return
    for tags in (*KNOWN, *_unknown(probes, off)):
        opened, emptied = tags.opened.search(on), tags.empty.search(off)
        if emptied and not tags.empty.search(on):
            yield Proof(switch, tags, off)
        asked = opened or (probes.mentions(tags) and tags.open not in off)
        if not emptied and asked and switch.argument and tags in KNOWN and not tags.opened.search(off):
            yield Proof(switch, tags, off)


def _unswitched(base: Probes) -> Iterator[Proof]:
    """No switch: the prompt opens the block, or the template shows in another way what the model does by itself."""
    for tags in KNOWN:
        if tags.opened.search(base.prompt):
            yield Proof(NO_SWITCH, tags, None)
    known = any(tags.close in base.template for tags in KNOWN)
    for tags in unknown_tags(base.prompt):
        if tags.opened.search(base.prompt) and not base.heads_answer(tags.open):
            # A tag that nobody knows may open something other than a thought, with a thought behind it.
            if not known and base.strips(tags):
                yield Proof(NO_SWITCH, tags, None)
            return
    for tags in KNOWN:
        stripped = base.holds(tags) and base.strips(tags)
        if shows_block(base, tags) or base.mentions(tags) or stripped:
            yield Proof(NO_SWITCH, tags, None)


def _unknown(probes: Probes, off: str) -> list[Tags]:
    """Pairs at the end of either prompt with both tags in the template, the vocabulary or the prompts."""
    places = (probes.template, probes.prompt, off, *probes.tokenizer.get_added_vocab())
    return [
        tags
        for tags in dict.fromkeys([*unknown_tags(off), *unknown_tags(probes.prompt)])
        if all(any(tag in place for place in places) for tag in (tags.open, tags.close))
        and not probes.heads_answer(tags.open)
    ]


def _format(probes: Probes, proof: Proof, seen: Seen) -> ThinkFormat:
    opened = proof.tags.opened.search(probes.prompt) is not None
    block = seen.block
    extends = proof.off is None or proof.off == probes.prompt + block
    return ThinkFormat(
        tokenizer=probes.tokenizer,
        open_tag=proof.tags.open,
        close_tag=proof.tags.close,
        empty_block=block,
        opened_by_prompt=opened,
        opening=seen.opening,
        closing=seen.closing,
        gap=seen.gap,
        end_of_turn=seen.end_of_turn,
        switch=proof.switch.name,
        on=proof.switch.on,
        off=None if extends else proof.switch.off,
    )


def _refusal(base: Probes, found: str) -> UserError:
    return user_error(
        found=f"{found} ({base.tokenizer.name_or_path})",
        needed="a think format that rendering the template proves",
        change=f"use a reasoning model's template, or say what its format is: {EXPLICIT}",
    )
