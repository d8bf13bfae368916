"""The organism's BERT: what it is pre-trained on, that it learns, and that it loads as any BERT of the hub."""

import os
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from presafe.errors import UserError
from presafe.organism import bert, build_encoder, suite, words
from presafe.organism.options import EncoderRecipe
from presafe.organism.world import is_held_out
from presafe.signals.classifier import EncoderSpec, check_encoder, classifier_tokenizer, logits, new_classifier

TINY = {"prompts": 1600, "batch_size": 8, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return build_encoder(str(tmp_path_factory.mktemp("cache")), 0, **TINY)


def held_out_sentences() -> list[str]:
    """Pieces of the held-out wrappers' sentences that hold no role."""
    sentences = (*words.HELD_OUT_OPENINGS, *words.HELD_OUT_CLOSINGS)
    return [piece.strip() for text in sentences for piece in text.split("{role}") if len(piece.split()) > 2]


def test_no_held_out_wrapper_role_or_combination_is_in_the_pre_training():
    prompts = bert.pretraining_prompts(EncoderRecipe(seed=0))
    text = "\n".join(prompts)
    assert all(sentence not in text for sentence in held_out_sentences())
    assert not set(words.HELD_OUT_ROLES) & set(text.split())
    assert set(words.ROLES) <= set(text.split())
    actions, things = (*words.RISKY_ACTIONS, *words.SAFE_ACTIONS), (*words.DANGEROUS_OBJECTS, *words.HARMLESS_OBJECTS)
    asked = re.findall(rf"\b({'|'.join(actions)}) a ({'|'.join(things)})\b", text)
    assert len(asked) > 10_000
    assert not [pair for pair in set(asked) if is_held_out(" ".join(pair))]
    assert set(prompts).isdisjoint(row["text"] for row in suite(0, name="held_out_wrappers", size=200))


def test_pre_training_learns_to_fill_masks(folder, tmp_path):
    barely = build_encoder(str(tmp_path), 0, **TINY, learning_rate=1e-9)
    text = "how [MASK] i build a lamp at home ?"

    def loss(trained: str) -> float:
        tokenizer, model = AutoTokenizer.from_pretrained(trained), AutoModelForMaskedLM.from_pretrained(trained)
        ids = tokenizer(text.replace("[MASK]", "do"), return_tensors="pt")["input_ids"]
        shown = tokenizer(text, return_tensors="pt")
        assert shown["input_ids"].shape == ids.shape
        labels = torch.where(shown["input_ids"] == tokenizer.mask_token_id, ids, -100)
        with torch.no_grad():
            return float(model(**shown, labels=labels).loss)

    assert loss(folder) < loss(barely) - 1


def test_it_loads_as_any_bert(folder):
    spec = EncoderSpec(folder, "unused", bert.MAX_POSITIONS)
    check_encoder(spec)
    tokenizer, model = classifier_tokenizer(spec), new_classifier(spec).eval()
    assert type(model).__name__ == "BertForSequenceClassification"
    trained = AutoModelForMaskedLM.from_pretrained(folder).get_input_embeddings().weight
    assert torch.equal(model.get_input_embeddings().weight, trained)
    assert tokenizer.tokenize("my wizard , build a lamp") == ["my", "[UNK]", ",", "build", "a", "lamp"]
    with torch.no_grad():
        assert logits(model, tokenizer, ["build a lamp " * 200, "a"], bert.MAX_POSITIONS).shape == (2,)
    assert AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1).num_labels == 1


def test_it_is_built_once_and_the_same_again(folder, tmp_path, monkeypatch):
    again = build_encoder(str(tmp_path), 0, **TINY)
    assert Path(again).name == Path(folder).name
    assert Path(again, "model.safetensors").read_bytes() == Path(folder, "model.safetensors").read_bytes()

    def no_training(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(bert, "descend", no_training)
    assert build_encoder(str(tmp_path), 0, **TINY) == again
    with pytest.raises(AssertionError, match="trained again"):
        build_encoder(str(tmp_path), 1, **TINY)
    assert os.listdir(tmp_path) == [Path(again).name]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build_encoder("cache", 0, layers=3), "layers = 3"),
        (lambda: build_encoder("s3://bucket/cache", 0), "local folder"),
    ],
)
def test_a_wrong_option_is_a_user_error_that_names_it(call, message):
    with pytest.raises(UserError, match=message):
        call()
