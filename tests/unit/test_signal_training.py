"""Loss, weights, early stopping and noise of the classifier's training, on real small encoders."""

import random
from itertools import pairwise

import pytest
import torch
from transformers import BertTokenizer, ModernBertConfig, ModernBertForSequenceClassification

from presafe import storage
from presafe.config import FreshEncoder, Signals
from presafe.progress import StepReporter
from presafe.signals.classifier import OWN_MODEL, classifier_tokenizer, encoder_spec, logits, new_classifier
from presafe.signals.loss import ClassWeights, Labelled, balanced, rank_loss, weighted_bce
from presafe.signals.noise import vocabulary_pieces, with_noise
from presafe.signals.train import ClassifierTraining, fit, stopping_loss
from support import random_qwen2
from tiny_tokenizer import QWEN3, save_tokenizer

TINY = FreshEncoder(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
ROWS = [Labelled(f"p{k}", "s", f"please add {k} {'lamp' if k % 2 else 'kite'}", float(k % 2)) for k in range(60)]
NONE = ClassWeights()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A random Qwen2 with its tokenizer."""
    path = str(tmp_path_factory.mktemp("model"))
    tokenizer = save_tokenizer(path, QWEN3)
    random_qwen2(len(tokenizer), pad_token_id=tokenizer.pad_token_id).save_pretrained(path)
    return path


def settings(**changes: object) -> Signals:
    return Signals.model_validate({"encoder": TINY, "max_tokens": 32, "batch_size": 8, **changes})


def classifier(folder: str, chosen: Signals):
    torch.manual_seed(0)
    spec = encoder_spec(chosen.encoder, folder, chosen.max_tokens)
    return new_classifier(spec), classifier_tokenizer(spec)


@pytest.mark.parametrize("size", [7, 1], ids=["uneven", "one row for two ranks"])
def test_the_ranks_average_is_the_loss_and_gradient_of_one_rank(folder, size):
    model, tokenizer = classifier(folder, settings())
    model.eval()
    batch, weights = ROWS[:size], ClassWeights(1.5, 0.75)

    def loss_and_gradient(world: int) -> tuple[float, torch.Tensor]:
        model.zero_grad()
        losses = [rank_loss(model, tokenizer, batch, weights, 32, rank, world) / world for rank in range(world)]
        torch.autograd.backward(torch.stack(losses).sum())
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        return sum(loss.item() for loss in losses), torch.cat(gradients)

    (one, gradient), (two, averaged) = loss_and_gradient(1), loss_and_gradient(2)
    assert two == pytest.approx(one, abs=1e-6)
    torch.testing.assert_close(averaged, gradient, atol=1e-6, rtol=1e-4)


def test_soft_labels_have_their_least_loss_at_the_label():
    labels = torch.tensor([0.25])
    losses = {p: float(weighted_bce(torch.logit(torch.tensor([p])), labels, NONE)) for p in (0.15, 0.25, 0.35)}
    assert min(losses, key=losses.__getitem__) == 0.25


def test_class_weights_give_both_decisions_the_same_total():
    labels = [1.0, 0.0, 0.0, 0.0, 0.5]
    weights = balanced(labels)
    assert weights.refuse * sum(labels) == pytest.approx(weights.comply * (len(labels) - sum(labels)))
    assert weights.refuse * sum(labels) * 2 == pytest.approx(len(labels))
    scores, target = torch.tensor([0.3, -1.2]), torch.tensor([1.0, 0.25])
    log = torch.nn.functional.logsigmoid
    expected = -(weights.refuse * target * log(scores) + weights.comply * (1 - target) * log(-scores)).sum()
    torch.testing.assert_close(weighted_bce(scores, target, weights), expected)


def test_early_stopping_ends_training_and_keeps_the_best_weights(folder, tmp_path):
    chosen = settings(learning_rate=0.01, epochs=20, patience=2)
    model, tokenizer = classifier(folder, chosen)
    wrong = [Labelled(row.prompt_id, row.source, row.text, 1 - row.label) for row in ROWS[40:]]  # learning hurts here
    training = ClassifierTraining(chosen, seed=0, rank=0, world=1)
    report = StepReporter(str(tmp_path / "progress.json"), 1)
    losses = fit(model, tokenizer, ROWS[:40], wrong, training, report)
    best = losses.index(min(losses))
    assert len(losses) == best + 1 + chosen.patience < chosen.epochs
    assert stopping_loss(model, tokenizer, wrong, NONE, training) == pytest.approx(min(losses), rel=1e-5)
    assert losses[-1] > min(losses)


@pytest.mark.parametrize("encoder", ["modernbert", OWN_MODEL, "fresh"])
def test_any_encoder_learns_and_its_logits_do_not_depend_on_padding(folder, tmp_path, encoder):
    chosen = settings(learning_rate=0.01, epochs=12, encoder=encoder if encoder == OWN_MODEL else TINY)
    if encoder == "modernbert":
        tokenizer = save_tokenizer(str(tmp_path / "modern"), QWEN3)
        shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
        ids = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), tokenizer.eos_token_id)
        config = ModernBertConfig(
            vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, num_labels=1, **shape, **ids
        )
        torch.manual_seed(0)
        ModernBertForSequenceClassification(config).save_pretrained(tmp_path / "modern")
        chosen = settings(learning_rate=0.01, epochs=12, encoder=str(tmp_path / "modern"))
    model, tokenizer = classifier(folder, chosen)
    url = str(tmp_path / "progress.json")
    losses = fit(model, tokenizer, ROWS[:40], ROWS[40:], ClassifierTraining(chosen, 0, 0, 1), StepReporter(url, 60, 0))
    assert min(losses) < 0.1
    said = storage.read_json(url)
    assert said["step"] == 5 * len(losses)
    assert f"loss {said['numbers']['loss']:.4f}" == said["note"]
    assert said["numbers"]["grad_norm"] > 0
    model.eval()
    with torch.no_grad():
        texts = [ROWS[41].text, ROWS[42].text + " and two and three"]
        alone = torch.cat([logits(model, tokenizer, [text], 32) for text in texts])
        torch.testing.assert_close(logits(model, tokenizer, texts, 32), alone, atol=1e-4, rtol=1e-4)


def test_noise_stands_around_the_query_and_leaves_some_alone(folder):
    tokenizer = classifier_tokenizer(encoder_spec(TINY, folder, 32))
    pieces = vocabulary_pieces(tokenizer)
    assert pieces
    assert not set(pieces) & set(tokenizer.all_special_tokens)
    rng = random.Random(0)
    texts = [with_noise("add two lamps", pieces, 3, rng) for _ in range(300)]
    assert all("add two lamps" in text for text in texts)
    parts = [text.split("add two lamps") for text in texts]
    assert max(len(side.split()) for pair in parts for side in pair) == 3
    assert 0.15 < sum(text == "add two lamps" for text in texts) / len(texts) < 0.4
    assert any(a != b for a, b in pairwise(texts))


def test_noise_of_a_wordpiece_vocabulary_holds_no_marks():
    pieces = vocabulary_pieces(BertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1, "lamp": 2, "##ing": 3}))
    assert pieces == ["lamp", "ing"]
