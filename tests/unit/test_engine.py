"""The batched engine against transformers, one prompt at a time."""

import re
from itertools import pairwise

import pytest
import torch

from presafe.config import Decoding, PrefixSettings, TransformersSettings
from presafe.engines.engine import Query
from presafe.engines.exported import load_base
from presafe.engines.transformers_engine import TransformersEngine
from presafe.judges.prefixes import prefix_judge
from run_directory import save_model

LONG_OPENING = "please add two and three and " * 6
TEXTS = ["add two", f"{LONG_OPENING} kite", "lamp", "please add two and three", f"{LONG_OPENING} two lamp"]
GREEDY = Decoding(temperature=0, max_new_tokens=12)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    root = tmp_path_factory.mktemp("engine")
    save_model(root)
    return load_base(str(root / "base"), "float32")


def engine(loaded, batch_size=8, max_prompt_tokens=4096):
    settings = TransformersSettings(batch_size=batch_size, max_prompt_tokens=max_prompt_tokens)
    return TransformersEngine(loaded, settings)


def alone(loaded, query, new_tokens=12):
    """Tokens of transformers' own greedy generation of one prompt, up to the end of sequence."""
    ids = torch.tensor([loaded.format.prompt_ids([{"role": "user", "content": query.text}], cot=query.cot == "on")])
    output = loaded.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new_tokens)
    tokens = output[0, ids.shape[1] :].tolist()
    return tokens[: tokens.index(loaded.tokenizer.eos_token_id)] if loaded.tokenizer.eos_token_id in tokens else tokens


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[1::3] * 2], ids=["apart", "shared prefix"])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_greedy_completions_equal_those_of_single_prompts(loaded, batch_size, texts):
    queries = [Query(text, "off") for text in texts]
    found = engine(loaded, batch_size).generate(queries, GREEDY, seed=0)
    for query, completion in zip(queries, found, strict=True):
        tokens = alone(loaded, query)
        assert completion.answer == loaded.format.split(loaded.tokenizer.decode(tokens), cot=False).answer
        assert completion.finish_reason == ("length" if len(tokens) == 12 else "stop")
        assert completion.num_tokens == len(tokens) + (completion.finish_reason == "stop")


@pytest.mark.parametrize("batch_size", [1, 3])
def test_who_asks_is_told_of_every_token_and_of_every_completion_once_it_is_there(loaded, batch_size):
    told: list[tuple[int, int]] = []
    queries = [Query("", "off"), *(Query(text, "off") for text in TEXTS)]
    found = engine(loaded, batch_size).generate(queries, GREEDY, 0, tell=lambda *so_far: told.append(so_far))
    assert told[0] == (1, batch_size), "the empty prompt is done, and the first batch has a token each"
    assert told[-1] == (len(queries), sum(completion.num_tokens for completion in found))
    for before, after in pairwise(told):
        assert before[0] <= after[0]
        assert before[1] <= after[1] <= before[1] + batch_size


def test_the_same_seed_samples_the_same_and_another_seed_or_sample_does_not(loaded):
    decoding = Decoding(temperature=1.0, top_p=1.0, max_new_tokens=8)
    queries = [Query(text, "off") for text in TEXTS]
    first, second, other = (engine(loaded, 2).generate(queries, decoding, seed) for seed in (1, 1, 2))
    assert first == second != other
    assert engine(loaded, 2).generate([Query(text, "off", 1) for text in TEXTS], decoding, 1) != first


def test_bad_prompts_are_stopped_before_the_model_and_cost_no_other(loaded):
    queries = [Query(text, "off") for text in ["", "lamp " * 100, "lamp", " \n "]]
    empty, long, good, blank = engine(loaded, max_prompt_tokens=64).generate(queries, GREEDY, 0)
    assert empty.error == blank.error == "empty prompt"
    assert "tokens; the engine takes 64" in long.error
    assert good == engine(loaded).generate([Query("lamp", "off")], GREEDY, 0)[0]
    assert good.error is None


def test_an_answer_stops_where_it_is_decided_and_the_others_do_not(loaded):
    sampled = Decoding(temperature=1.0, top_p=1.0, max_new_tokens=24)  # greedily, the random model writes only spaces
    one_by_one = engine(loaded, batch_size=1)  # a batch draws by its content: so every query draws the same twice
    full = one_by_one.generate([Query(text, "off") for text in TEXTS], sampled, 0)
    first_word = re.search("[a-z]+", full[0].answer.lower())
    judge = prefix_judge(PrefixSettings(refusal_prefixes=[first_word[0]]))
    queries = [Query(text, "off", stop_early=k % 2 == 0) for k, text in enumerate(TEXTS)]
    found = one_by_one.generate(queries, sampled, 0, judge.decided)
    for query, short, long in zip(queries, found, full, strict=True):
        if not query.stop_early:
            assert short == long
        else:
            assert short.finish_reason == "decided"
            assert short.num_tokens < long.num_tokens
            assert long.answer.startswith(short.answer.rstrip("\ufffd"))
            assert judge(short.answer, "decided") == judge(long.answer, "stop")
    assert [judge(short.answer, "decided") for short in found[::2]].count("refuse") == 1
