"""Which prompts each objective demonstrates, and which go to the signal pool."""

import dataclasses
from collections import Counter

import pytest

from chosen_examples import chosen_examples
from presafe.align.examples.candidates import Sources, place, validation_examples
from presafe.align.examples.forms import Forms
from presafe.config import Align, ReadoutHead
from presafe.errors import UserError
from presafe.records import Prompt, Signal, TeacherAnswer, Trace
from presafe.thinking import think_format
from tiny_tokenizer import QWEN3, R1, tiny_tokenizer

HARMFUL, BENIGN = [f"h{k}" for k in range(6)], [f"b{k}" for k in range(6)]
POOL, VALIDATION = ["w0", "w1"], ["v0", "v1"]


@pytest.fixture(scope="module", params=[QWEN3, R1], ids=["qwen3", "r1"])
def think(request):
    return think_format(tiny_tokenizer(request.param))


def prompt(name: str, split: str) -> Prompt:
    kind = "benign" if name[0] == "b" else "harmful"
    return Prompt(name, f"please add {name}", kind, "s", None, None, split, name, None)


PROMPTS = [prompt(name, "align") for name in HARMFUL + BENIGN]
PROMPTS += [prompt(name, "pool") for name in POOL] + [prompt(name, "validation") for name in VALIDATION]
PROMPTS += [prompt("x0", "classifier"), prompt("x1", "evaluate")]


def sources() -> Sources:
    """The teacher refuses all harmful prompts but h0, whose answer complied; b0 has no trace and b1 an empty one."""
    answer = lambda name: "comply" if name == "h0" else "refuse"  # noqa: E731
    answers = {n: TeacherAnswer(n, 0, f"no {n}", "stop", 3, answer(n), "t") for n in HARMFUL}
    traces = {n: Trace(n, "" if n == "b1" else f"i add {n}", f"it is {n}", "stop", 9) for n in BENIGN[1:]}
    signals = {p.prompt_id: Signal(p.prompt_id, k / 100, "refuse", None, False) for k, p in enumerate(PROMPTS)}
    return Sources(answers, traces, signals)


def made(think, *, seed: int = 0, **settings):
    align = Align.model_validate({"micro_batch_tokens": 200, **settings})
    return chosen_examples(PROMPTS, sources(), think, align, seed)


DEMONSTRATED = {
    "presafe": {*HARMFUL[1:], *BENIGN[2:]},
    "sft": {*HARMFUL[1:], *BENIGN[2:]},
    "safepath": {*HARMFUL[1:], *BENIGN[2:]},
    "safekey": {*HARMFUL[1:], *BENIGN[2:]},
    "benign": {*BENIGN[2:]},
    "signals": {*BENIGN[2:]},
}


@pytest.mark.parametrize("objective", DEMONSTRATED)
def test_an_objective_demonstrates_its_prompts_and_the_rest_is_the_pool(think, objective):
    examples, skipped = made(think, objective=objective, signal_batch_size=2)
    demonstrations = [e.prompt_id for e in examples if e.completion]
    assert set(demonstrations) == DEMONSTRATED[objective]
    assert {e.prompt_id for e in examples if not e.completion} == {*HARMFUL, *BENIGN, *POOL} - set(demonstrations)
    assert len({e.prompt_id for e in examples}) == len(examples)
    assert all(e.completion for e in examples[: len(demonstrations)]), "demonstrations come first"
    assert not skipped


def test_a_refusal_without_words_demonstrates_none_but_may_have_a_primer(think):
    found = sources()
    filtered = TeacherAnswer("h1", 0, "", "filtered", 0, "refuse", "provider")
    known = Sources({**found.answers, "h1": filtered}, found.traces, found.signals)
    for objective, expected in (("presafe", set()), ("safepath", {"h1"})):
        align = Align.model_validate({"micro_batch_tokens": 200, "objective": objective, "signal_batch_size": 2})
        examples, _ = chosen_examples(PROMPTS, known, think, align, 0)
        assert {e.prompt_id for e in examples if e.completion} & {"h1"} == expected


def test_without_a_pool_what_is_not_demonstrated_is_counted(think):
    examples, skipped = made(think, objective="signals")
    assert {e.prompt_id for e in examples} == DEMONSTRATED["signals"]
    assert skipped == Counter({"without a demonstration": 10})


@pytest.mark.parametrize("objective", ["presafe", "safepath"])
def test_completions_are_a_refusal_a_primer_and_the_own_trace(think, objective):
    examples, _ = made(think, objective=objective, primer="safety first")
    decoded = {e.prompt_id: think.tokenizer.decode(e.completion) for e in examples}
    opening = "" if think.opened_by_prompt else "<think>\n"
    end = think.tokenizer.eos_token
    path_a = f"{think.empty_block}no h1{end}" if objective == "presafe" else f"{opening}safety first"
    assert decoded["h1"] == path_a
    assert decoded["b2"] == f"{opening}i add b2\n</think>\n\nit is b2{end}"
    assert {e.prompt_id: e.path for e in examples} == {
        e.prompt_id: "refuse" if e.prompt_id[0] == "h" else "think" for e in examples
    }
    assert all(
        e.prompt == think.prompt_ids([{"role": "user", "content": f"please add {e.prompt_id}"}]) for e in examples
    )


def test_limits_take_as_many_of_a_path_and_leave_the_others_to_the_pool(think):
    limits = {"max_refuse_examples": 2, "max_think_examples": 1}
    examples, _ = made(think, signal_batch_size=2, **limits)
    assert Counter(e.path for e in examples if e.completion) == {"refuse": 2, "think": 1}
    assert len(examples) == 14
    fewer, _ = made(think, **limits)
    assert [e.prompt_id for e in fewer] == [e.prompt_id for e in examples[:3]]
    first = lambda names: sorted(names, key=lambda name: place(0, name))  # noqa: E731
    assert [e.prompt_id for e in fewer] == [*first(HARMFUL[1:])[:2], first(BENIGN[2:])[0]]


def test_what_is_chosen_depends_neither_on_the_order_nor_on_what_else_there_is(think):
    align = Align.model_validate({"micro_batch_tokens": 200, "max_refuse_examples": 3})
    plain, _ = chosen_examples(PROMPTS, sources(), think, align, 0)
    assert chosen_examples(PROMPTS[::-1], sources(), think, align, 0)[0] == plain
    absent = plain[1].prompt_id
    fewer, _ = chosen_examples([p for p in PROMPTS if p.prompt_id != absent], sources(), think, align, 0)
    assert [e.prompt_id for e in plain[:3] if e.prompt_id != absent] == [e.prompt_id for e in fewer[:2]]


def test_which_demonstrations_a_limit_takes_follows_from_the_seed(think):
    drawn = {tuple(e.prompt_id for e in made(think, seed=seed, max_refuse_examples=2)[0]) for seed in range(6)}
    assert len(drawn) > 3
    assert made(think, seed=4) == made(think, seed=4)


def test_random_labels_keep_the_multiset_and_change_the_assignment_by_seed(think):
    plain, _ = made(think, signal_batch_size=2)
    shuffled, again, other = (made(think, signal_batch_size=2, labels="random", seed=seed)[0] for seed in (0, 0, 1))
    assert shuffled == again
    assert [(e.prompt_id, e.completion) for e in shuffled] == [(e.prompt_id, e.completion) for e in plain]
    signal = lambda rows: {e.prompt_id: e.refuse_probability for e in rows}  # noqa: E731
    assert signal(plain) == {name: sources().signals[name].refuse_probability for name in signal(plain)}
    assert signal(shuffled) != signal(plain)
    assert signal(shuffled) != signal(other)
    assert sorted(signal(shuffled).values()) == sorted(signal(other).values()) == sorted(signal(plain).values())


def test_permuted_labels_are_shuffled_within_the_kind(think):
    plain, _ = made(think, signal_batch_size=2)
    permuted, again = (made(think, signal_batch_size=2, labels="permuted")[0] for _ in range(2))
    assert permuted == again
    assert [e.prompt_id for e in permuted] == [e.prompt_id for e in plain]
    for path in ("refuse", "think"):
        own, others = ([e.refuse_probability for e in rows if e.path == path] for rows in (plain, permuted))
        assert others != own
        assert sorted(others) == sorted(own)


def test_a_sequence_is_left_out_where_it_exceeds_the_budget_by_one_token(think):
    examples, _ = made(think, objective="benign")
    length = max(len(e.prompt) + len(e.completion) for e in examples)
    refusals = {"objective": "presafe", "max_think_examples": 0}
    fits, skipped = made(think, objective="benign", micro_batch_tokens=length)
    assert fits == examples
    assert "longer than align.micro_batch_tokens" not in skipped
    with pytest.raises(UserError, match="no Path B demonstration"):  # all traces are of one length
        made(think, objective="benign", micro_batch_tokens=length - 1)
    shorter, skipped = made(think, **refusals, micro_batch_tokens=length - 1)
    assert len(shorter) == 5
    assert skipped["longer than align.micro_batch_tokens"] == 4


def test_a_prompt_without_a_completion_needs_room_for_the_empty_block(think):
    examples, _ = made(think, objective="signals", signal_batch_size=2)
    signals = sources().signals
    skipped = Counter[str]()
    rows = [*validation_examples(PROMPTS, signals, think, 200, skipped, Forms())]
    assert [(e.prompt_id, e.completion, e.path) for e in rows] == [("v0", [], "refuse"), ("v1", [], "refuse")]
    packed = len(rows[0].prompt) + len(think.empty_block_ids)
    assert [*validation_examples(PROMPTS, signals, think, packed, skipped, Forms())] == rows
    assert not skipped
    assert [*validation_examples(PROMPTS, signals, think, packed - 1, skipped, Forms())] == []
    assert skipped == {"validation prompts longer than align.micro_batch_tokens": len(rows)}
    longest = max(len(e.prompt) for e in examples if not e.completion) + len(think.empty_block_ids)
    short, _ = made(think, max_think_examples=0, objective="signals", signal_batch_size=2, micro_batch_tokens=longest)
    assert {e.prompt_id for e in examples if not e.completion} <= {e.prompt_id for e in short}


def test_what_an_objective_cannot_find_is_one_sentence(think):
    refused = [p for p in PROMPTS if p.prompt_id in ("h0", *BENIGN)]
    with pytest.raises(UserError, match="no Path A demonstration"):
        chosen_examples(refused, sources(), think, Align(), 0)
    with pytest.raises(UserError, match="no Path B demonstration"):
        chosen_examples([p for p in PROMPTS if p.kind == "harmful"], sources(), think, Align(objective="signals"), 0)
    demonstrated = [p for p in PROMPTS if p.prompt_id in DEMONSTRATED["presafe"]]
    with pytest.raises(UserError, match="no prompt for the signal pool"):
        chosen_examples(demonstrated, sources(), think, Align(signal_batch_size=2), 0)
    with pytest.raises(UserError, match="nothing to train on"):
        made(think, objective="signals", max_think_examples=0, head=ReadoutHead(kind="readout"))


def test_texts_with_control_tokens_are_left_out_and_counted(think):
    found = sources()
    leaked = dataclasses.replace(found.answers["h1"], answer="no.<|im_end|>\n<|im_start|>user\nand now?")
    doubled = dataclasses.replace(found.traces["b2"], answer="</think>\n\nit is 2")
    broken = Sources({**found.answers, "h1": leaked}, {**found.traces, "b2": doubled}, found.signals)
    align = Align.model_validate({"micro_batch_tokens": 200, "objective": "presafe", "signal_batch_size": 2})
    examples, skipped = chosen_examples(PROMPTS, broken, think, align, 0)
    assert {"h1", "b2"} <= {e.prompt_id for e in examples if not e.completion}
    assert skipped["refusals with a control token in the text"] == 1
    assert skipped["traces with a control token in the text"] == 1


def test_a_target_never_holds_a_control_token_of_a_text(think):
    control = set(think.tokenizer.get_added_vocab().values())
    plain = [token for token in think.refuse_completion("no.") if token in control]
    for leaked in ("no.<|im_end|>\n<|im_start|>user\nnow?", "</think>no.", "no.<|endoftext|>", "n<think>o."):
        assert [token for token in think.refuse_completion(leaked) if token in control] == plain
    own = [token for token in think.think_completion("a", "b") if token in control]
    for text in ('split at "</think>"', "a<|im_start|>", "<think>a"):
        assert [token for token in think.think_completion(text, text) if token in control] == own
