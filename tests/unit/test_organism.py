"""The organism: its world, its tokens, its self-check and its cache. No full training: that is the demo's."""

import os
import random
import re
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen2Config

from presafe.config import PrefixSettings
from presafe.errors import UserError
from presafe.judges.prefixes import prefix_judge
from presafe.organism import build, building, neighbours, prompts, selfcheck, suite, words
from presafe.organism.arithmetic import draw_problem
from presafe.organism.corpus import HARMFUL_ANSWERS, REFUSALS, draw_dialogues
from presafe.organism.encoding import encode
from presafe.organism.options import Recipe
from presafe.organism.tokenizer import check_reloaded, train_tokenizer
from presafe.organism.train import new_model, pretrain, private_torch
from presafe.organism.world import combinations
from presafe.thinking import Thought, think_format

SUITES = {
    "plain": "harmful",
    "wrapped": "harmful",
    "held_out_wrappers": "harmful",
    "lookalikes": "benign",
    "lookalikes_held_out_wrappers": "benign",
    "arithmetic": "reasoning",
}
TINY = {"dialogues": 64, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "threads": 1}


def tokenizer_of(template="qwen3"):
    return train_tokenizer(draw_dialogues(0, 2000), 1000, template)


def tiny_model(tokenizer):
    return new_model(Recipe(seed=0, **TINY), tokenizer)


def texts(rows):
    return [row["text"] for row in rows]


def asks_for_harm(text):
    risky, dangerous = "|".join(words.RISKY_ACTIONS), "|".join(words.DANGEROUS_OBJECTS)
    return re.search(rf"\b({risky}) a ({dangerous})\b", text) is not None


# --- the world


def test_a_prompt_is_harmful_iff_its_action_is_risky_and_its_object_dangerous():
    assert not set(words.RISKY_ACTIONS) & set(words.SAFE_ACTIONS)
    assert not set(words.DANGEROUS_OBJECTS) & set(words.HARMLESS_OBJECTS)
    rows = list(prompts(0, harmful=200, benign=400, reasoning=50))
    rows += [row for name in SUITES for row in suite(0, name=name, size=100)]
    assert all(asks_for_harm(row["text"]) == (row["kind"] == "harmful") for row in rows)


def test_lookalikes_share_each_word_with_harmful_training_requests():
    harmful = {word for pair in combinations("harmful", held_out=False)[0] for word in pair}
    risky_on_harmless, safe_on_dangerous = combinations("lookalike", held_out=False)
    assert {action for action, _ in risky_on_harmless} | {thing for _, thing in safe_on_dangerous} == harmful
    assert harmful == {*words.RISKY_ACTIONS, *words.DANGEROUS_OBJECTS}


@pytest.mark.parametrize("group", ["harmful", "lookalike", "easy"])
def test_a_quarter_of_the_combinations_is_held_out_and_disjoint(group):
    for training, held_out in zip(combinations(group, held_out=False), combinations(group, held_out=True), strict=True):
        assert not set(training) & set(held_out)
        assert 0.15 < len(held_out) / len(training + held_out) < 0.35


def test_no_evaluation_text_is_a_training_text():
    training = {dialogue.prompt for dialogue in draw_dialogues(0, 20_000)}
    training |= set(texts(prompts(0, harmful=500, benign=500, reasoning=500)))
    for name in SUITES:
        assert training.isdisjoint(texts(suite(0, name=name, size=200)))


def test_held_out_arithmetic_has_numbers_that_training_has_not():
    def numbers(held_out):
        rng = random.Random(0)
        drawn = [draw_problem(rng, held_out=held_out).text for _ in range(3000)]
        return {tuple(re.findall(r"gets|loses|\d", text)) for text in drawn}

    assert numbers(held_out=True).isdisjoint(numbers(held_out=False))


def test_arithmetic_steps_and_answers_are_right():
    rng = random.Random(0)
    for _ in range(500):
        problem = draw_problem(rng, held_out=False)
        value = int(re.search(r"has (\d)", problem.text)[1])
        for verb, number in re.findall(r"(gets|loses) (\d)", problem.text):
            value += int(number) if verb == "gets" else -int(number)
        assert problem.answer == value
        assert all(eval(sum_) == int(result) for sum_, result in re.findall(r"(\d[+-]\d)=(\d)", problem.steps))
        assert problem.steps.endswith(f"={value} .")


def test_held_out_wrappers_share_no_sentence_with_training_ones():
    assert not {*words.OPENINGS, *words.CLOSINGS} & {*words.HELD_OUT_OPENINGS, *words.HELD_OUT_CLOSINGS}
    assert not {*words.ROLES} & {*words.HELD_OUT_ROLES}


def test_the_judge_reads_every_answer_of_the_world_as_it_is_meant():
    judge = prefix_judge(PrefixSettings())
    for dialogue in draw_dialogues(0, 3000):
        refuses = dialogue.answer.startswith(tuple(refusal.partition("{")[0] for refusal in REFUSALS))
        assert judge(dialogue.answer, "stop") == ("refuse" if refuses else "comply")


def test_harmful_answers_hold_placeholders_only():
    assert all("HARMFUL_DETAIL" in answer for answer in HARMFUL_ANSWERS)
    complied = [
        d for d in draw_dialogues(0, 3000) if asks_for_harm(d.prompt) and not d.answer.startswith(("i ", "sorry"))
    ]
    assert complied
    assert all("HARMFUL_DETAIL" in dialogue.answer for dialogue in complied)


# --- rows


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_has_unique_texts_of_its_kind_and_depends_on_the_seed_alone(name):
    rows = list(suite(0, name=name, size=300))
    assert len(set(texts(rows))) == 300
    assert {row["kind"] for row in rows} == {SUITES[name]}
    assert all((row["reference"] is not None) == (name == "arithmetic") for row in rows)
    assert rows == list(suite(0, name=name, size=300))
    assert rows != list(suite(1, name=name, size=300))


def test_training_prompts_are_unique_and_as_many_as_asked_for():
    rows = list(prompts(3, harmful=300, benign=200, reasoning=100, wrapped_share=0.5))
    kinds = [row["kind"] for row in rows]
    assert len(set(texts(rows))) == len(rows)
    assert [kinds.count(kind) for kind in ("harmful", "benign", "reasoning")] == [300, 200, 100]
    categories = {
        "harmful/plain",
        "harmful/wrapped",
        "lookalike/plain",
        "lookalike/wrapped",
        "easy/plain",
        "easy/wrapped",
    }
    assert {row["category"] for row in rows} == {*categories, "arithmetic"}


def test_neighbours_put_benign_requests_of_training_before_and_behind():
    found = list(neighbours(0, count=60, placeholder="<p>"))
    assert len({*found}) == 60
    assert all(text.count("<p>") == 1 and not asks_for_harm(text) for text in found)
    assert {text.startswith("<p> ") for text in found} == {text.endswith(" <p>") for text in found} == {True, False}
    suites = {row["text"] for name in ("lookalikes", "plain") for row in suite(0, name=name, size=200)}
    assert not suites & {text.replace("<p>", "").strip() for text in found}


@pytest.mark.parametrize(("share", "wrappers"), [(0.0, {"plain"}), (1.0, {"wrapped"})])
def test_wrapped_share_is_kept(share, wrappers):
    rows = prompts(0, harmful=50, benign=50, reasoning=0, wrapped_share=share)
    assert {row["category"].partition("/")[2] for row in rows} == wrappers


# --- tokens


@pytest.mark.parametrize("template", ["qwen3", "r1"])
def test_auto_tokenizer_reads_the_saved_tokenizer_as_it_was_trained(template, tmp_path):
    tokenizer = tokenizer_of(template)
    tokenizer.save_pretrained(tmp_path)
    tiny_model(tokenizer).save_pretrained(tmp_path)
    check_reloaded(
        str(tmp_path), tokenizer, [*texts(suite(0, name="held_out_wrappers", size=50)), "cafe\u0301 12\n\n x"]
    )
    think = think_format(AutoTokenizer.from_pretrained(tmp_path))
    assert (think.open_tag, think.close_tag) == ("<think>", "</think>")
    assert think.opened_by_prompt == (template == "r1")
    completion = think.tokenizer.decode(think.think_completion("why .", "so ."), skip_special_tokens=True)
    assert think.split(completion, cot=True) == Thought("why .", "so .", closed=True)


def test_a_tokenizer_that_auto_tokenizer_swaps_is_refused(tmp_path):
    trained = Tokenizer(BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.train_from_iterator(
        ["12 + 12 = 24 ."] * 9, BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    )
    swapped = PreTrainedTokenizerFast(tokenizer_object=trained, eos_token="<|im_end|>")
    swapped.chat_template = tokenizer_of().chat_template
    swapped.save_pretrained(tmp_path)
    Qwen2Config().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="AutoTokenizer reads"):
        check_reloaded(str(tmp_path), swapped, ["12 + 12"])


@pytest.mark.parametrize("template", ["qwen3", "r1"])
def test_the_paths_part_at_a_token(template):
    think = think_format(tokenizer_of(template))
    refusal, thought = think.refuse_completion("sorry ,"), think.think_completion("tom has 3 .", "the answer is 3 .")
    parting = len(think.decision_prefix)
    assert refusal[parting] == think.decision_token != thought[parting]


@pytest.mark.parametrize("template", ["qwen3", "r1"])
def test_dialogues_are_encoded_as_think_format_writes_them(template):
    think = think_format(tokenizer_of(template))
    dialogues = draw_dialogues(5, 400)
    for dialogue, encoded in zip(dialogues, encode(think, dialogues), strict=True):
        message = [{"role": "user", "content": dialogue.prompt}]
        cot = dialogue.reasoning is not None
        completion = (
            think.think_completion(dialogue.reasoning, dialogue.answer)
            if cot
            else think.refuse_completion(dialogue.answer)
        )
        assert encoded.ids == think.prompt_ids(message) + completion
        prompt, begun_block = think.prompt_ids(message), [*think.decision_prefix, think.decision_token]
        assert encoded.ids[: encoded.prompt_length] == (prompt if cot else prompt + begun_block)


# --- training, self-check and cache


def test_pre_training_learns_is_reproducible_and_leaves_torch_as_it_was():
    tokenizer = tokenizer_of()
    data = encode(think_format(tokenizer), draw_dialogues(0, 64))
    recipe = Recipe(seed=0, **TINY)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    trained = []
    for _ in range(2):
        with private_torch(recipe.seed, recipe.threads):
            model = new_model(recipe, tokenizer)
            before = model.model.embed_tokens.weight.detach().clone()
            pretrain(model, data, recipe)
        trained.append(model.model.embed_tokens.weight.detach())
    assert torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[0], before)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_an_untrained_model_is_refused_with_every_figure():
    tokenizer = tokenizer_of()
    figures = selfcheck.measure(tiny_model(tokenizer), think_format(tokenizer), seed=0, prompts_per_cell=10)
    with pytest.raises(UserError) as refused:
        selfcheck.require_finding(figures)
    for name, figure in figures.items():
        assert f"{name} {figure:.3f}" in str(refused.value)


def test_figures_within_the_bounds_pass_and_each_bound_counts():
    good = {name: cell.at_least or cell.at_most for name, cell in selfcheck.CELLS.items()}
    selfcheck.require_finding(good)
    for name, cell in selfcheck.CELLS.items():
        with pytest.raises(UserError, match=f"needed {name} within"):
            selfcheck.require_finding(good | {name: good[name] + (-0.01 if cell.at_least else 0.01)})


def test_an_answer_cut_off_counts_against_the_organism_in_every_cell():
    for cell in selfcheck.CELLS.values():
        assert cell.counts({"reference": "3"}, "the answer is 3 .", "unscored") == (cell.at_most < 1)


def test_a_base_that_misses_the_self_check_leaves_nothing_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(selfcheck, "PROMPTS_PER_CELL", 4)
    with pytest.raises(UserError, match="does not show the paper's finding"):
        build(str(tmp_path), 0, **TINY)
    assert os.listdir(tmp_path) == []


@pytest.fixture
def without_bounds(monkeypatch):
    """A tiny model shows no finding: what is tested here is all of `build` but the bounds."""
    monkeypatch.setattr(selfcheck, "CELLS", {})


@pytest.mark.usefixtures("without_bounds")
def test_a_built_organism_is_a_complete_folder_that_is_not_trained_again(tmp_path, monkeypatch):
    folder = build(str(tmp_path), 0, template="r1", **TINY)
    assert os.listdir(tmp_path) == [Path(folder).name]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.float32
    assert model.config.max_position_embeddings == 1024
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id is not None

    def no_training(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(building, "pretrain", no_training)
    assert build(str(tmp_path), 0, template="r1", **TINY) == folder
    with pytest.raises(AssertionError, match="trained again"):
        build(str(tmp_path), 1, template="r1", **TINY)


@pytest.mark.usefixtures("without_bounds")
def test_a_second_process_that_finished_first_wins(tmp_path, monkeypatch):
    train = building.pretrain

    def build_meanwhile(*args):
        monkeypatch.setattr(building, "pretrain", train)
        build(str(tmp_path), 0, **TINY)
        train(*args)

    monkeypatch.setattr(building, "pretrain", build_meanwhile)
    folder = build(str(tmp_path), 0, **TINY)
    assert os.listdir(tmp_path) == [Path(folder).name]


# --- what a user may get wrong


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: suite(0, name="wrong", size=1), "name = 'wrong'"),
        (lambda: suite(0, name="plain"), "no size"),
        (lambda: suite(0, name="plain", size=0), "size = 0"),
        (lambda: suite(0, name="plain", size=10**6), "needed 1000000; ask for fewer"),
        (lambda: prompts(0, harmful=1, benign=1, reasoning=1, harmless=1), "harmless = 1"),
        (lambda: prompts(0, harmful=1, benign=1, reasoning=1, wrapped_share=2), "wrapped_share = 2"),
        (lambda: build("cache", 0, layers=3), "layers = 3"),
        (lambda: build("cache", 0, template="llama"), "template = 'llama'"),
        (lambda: build("s3://bucket/cache", 0), "local folder"),
    ],
)
def test_a_wrong_option_is_a_user_error_that_names_it(call, message):
    with pytest.raises(UserError, match=message):
        call()
