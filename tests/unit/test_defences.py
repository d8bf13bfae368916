"""What defences say of conversations, against plain computations on tiny random models; what each one refuses."""

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from presafe import storage
from presafe.config import Config, Evaluate
from presafe.config.defences import Guard, GuardClassifier, Perplexity, Probe, SmoothLLM
from presafe.decision.head import SafetyHead, save_head
from presafe.defences import catalogue
from presafe.defences.guard import check_guard, start_guard
from presafe.defences.perplexity import score, start_perplexity
from presafe.defences.probe import STRENGTHS, FittedProbe, check_probe, fit, start_probe
from presafe.defences.sequence import (
    check_guard_classifier,
    log_odds,
    own_classifier,
    start_guard_classifier,
    start_own_classifier,
)
from presafe.defences.smoothllm import ALPHABET, changed, changed_copies, start_smoothllm
from presafe.defences.states import batches
from presafe.engines.card import Card, write_card
from presafe.engines.exported import load_base, load_exported
from presafe.engines.job import Task
from presafe.engines.start import ModelSpec
from presafe.errors import UserError
from presafe.evaluate.tasks import read_by_defences
from presafe.records import Example, Prompt
from run_directory import config, save_model
from support import random_qwen2
from tiny_tokenizer import PLAIN, QWEN3, save_tokenizer

EARLIER = [
    {"role": "system", "content": "you are kind"},
    {"role": "user", "content": "add two"},
    {"role": "assistant", "content": "yes"},
]
TEXTS = ["how do i build a kite ?", "two and three", "i want to make soup . please tell me how to make a lamp ."]


def asked(*texts: str) -> list[Task]:
    return [Task(f"t{k}", f"p{k}", text, "on", 0) for k, text in enumerate(texts)]


CONVERSATION = Task("t9", "p9", "and three ?", "on", 0, earlier=EARLIER)
TASKS = [*asked(*TEXTS), CONVERSATION]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A base, the same as a guard with a plain template, and an export of all weights with a random head."""
    root = tmp_path_factory.mktemp("models")
    save_model(root)
    guard = save_tokenizer(str(root / "guard"), PLAIN)
    random_qwen2(len(guard), eos_token_id=guard.eos_token_id, pad_token_id=guard.pad_token_id).save_pretrained(
        root / "guard"
    )
    full = save_tokenizer(str(root / "run/model/full"), QWEN3)
    random_qwen2(len(full), eos_token_id=full.eos_token_id, pad_token_id=full.pad_token_id).save_pretrained(
        root / "run/model/full"
    )
    torch.manual_seed(1)
    save_head(SafetyHead(32).linear.state_dict(), str(root / "run/model/safety_head.safetensors"))
    card = Card(
        base_model="none",
        dtype="float32",
        weights="full",
        think_format={},
        threshold=0.5,
        max_over_refusal=0.01,
        refusal="no",
        config_hash="h",
        metrics={},
    )
    write_card(str(root / "run/model"), card)
    return root


@pytest.fixture(scope="module")
def spec(root: Path) -> ModelSpec:
    return ModelSpec(str(root / "base"), "float32")


def turns(task: Task) -> list[dict[str, str]]:
    return [*task.earlier, {"role": "user", "content": task.text}]


def test_prompts_of_a_batch_have_room_in_it_with_their_padding():
    lengths = [5, 1, 9, 30, 2, 2]
    found = list(batches(lengths, 12))
    assert sorted(place for batch in found for place in batch) == list(range(6))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= 12
    assert [3] in found


def test_the_probe_is_scikit_learns_on_the_same_states_with_soft_labels():
    draw = np.random.default_rng(0)
    states, held_out = draw.normal(size=(80, 6)) * 3 + 1, draw.normal(size=(30, 6)) * 3 + 1
    direction = draw.normal(size=6)
    signals, wanted = expit(states @ direction / 4), expit(held_out @ direction / 4)
    found = fit(states, signals, held_out, wanted)
    scaler = StandardScaler().fit(states)
    both, labels = np.concatenate([scaler.transform(states)] * 2), [1] * 80 + [0] * 80
    weights = np.concatenate([signals, 1 - signals])
    losses = {}
    for c in STRENGTHS:
        theirs = LogisticRegression(C=c, max_iter=2000).fit(both, labels, sample_weight=weights)
        chances = theirs.predict_proba(scaler.transform(held_out))[:, 1]
        losses[c] = -(wanted * np.log(chances) + (1 - wanted) * np.log1p(-chances)).mean()
        if c == found.c:
            mine = held_out @ np.array(found.weight) + found.bias
            assert mine == pytest.approx(theirs.decision_function(scaler.transform(held_out)))
    assert found.losses == pytest.approx(list(losses.values()))
    assert found.c == min(losses, key=losses.__getitem__)
    assert (found.prompts, found.validation) == (80, 30)


def test_a_planted_direction_is_told_apart_without_error():
    draw = np.random.default_rng(1)
    is_harmful = draw.random(300) < 0.5
    states = draw.normal(size=(300, 16)) + 12 * np.outer(is_harmful, np.eye(16)[3])
    signals = np.where(is_harmful, 0.95, 0.05)
    found = fit(states[:150], signals[:150], states[150:200], signals[150:200])
    assert roc_auc_score(is_harmful[200:], states[200:] @ np.array(found.weight)) == 1.0


@pytest.mark.parametrize("layer", [-1, 1])
def test_the_probe_reads_the_last_token_of_the_prompt_whatever_it_is_read_with(spec, layer):
    draw = np.random.default_rng(2)
    probe = FittedProbe(draw.normal(size=32).tolist(), 0.25, 1.0, [], 0, 0)
    settings = Probe(kind="probe", layer=layer, batch_tokens=64)
    found = start_probe(settings, spec, probe, layer, on_gpu=False)(TASKS)
    base = load_base(spec.base, "float32")
    for reading, task in zip(found, TASKS, strict=True):
        ids = base.format.prompt_ids(turns(task))
        with torch.inference_mode():
            output = base.model.base_model(input_ids=torch.tensor([ids]), output_hidden_states=True)
        states = output.last_hidden_state if layer == -1 else output.hidden_states[layer]
        state = states[0, -1].double().numpy()
        assert reading.score == pytest.approx(float(expit(state @ np.array(probe.weight) + probe.bias)), abs=1e-5)
        assert (reading.num_tokens, reading.passes, reading.error) == (len(ids), 1, None)


def test_a_perplexity_is_the_plain_cross_entropy_of_the_text(spec):
    found = start_perplexity(Perplexity(kind="perplexity", batch_tokens=64), spec, on_gpu=False)(asked(*TEXTS))
    base = load_base(spec.base, "float32")
    for reading, text in zip(found, TEXTS, strict=True):
        ids = torch.tensor([base.tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.inference_mode():
            loss = base.model(input_ids=ids, labels=ids).loss.item()
        assert reading.score == pytest.approx(loss, abs=1e-5)


def test_the_window_of_a_perplexity_finds_the_worst_run_of_tokens():
    losses = torch.tensor([1.0, 1.0, 4.0, 2.0, 1.0])
    assert score(losses, None) == pytest.approx(9 / 5)
    assert score(losses, 2) == pytest.approx(3.0)
    assert score(losses, 9) == pytest.approx(9 / 5)


def test_a_text_without_a_second_token_costs_itself_alone(spec):
    read = start_perplexity(Perplexity(kind="perplexity"), spec, on_gpu=False)
    one, other = read(asked("a", TEXTS[0]))
    assert np.isnan(one.score)
    assert "a perplexity needs 2 to" in str(one.error)
    assert other.error is None


def guard_settings(root: Path, **changes: object) -> Guard:
    told = {"begun": "Safety:", "unsafe": [" no"], "safe": [" yes"], "dtype": "float32", "batch_tokens": 64}
    return Guard.model_validate({"kind": "guard", "name": "g", "model": str(root / "guard"), **told, **changes})


def test_a_guards_score_is_the_plain_log_odds_of_its_words(root):
    settings = guard_settings(root)
    check_guard(settings)
    found = start_guard(settings, on_gpu=False)(TASKS)
    guard = load_plain(root)
    no, yes = (guard.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in (" no", " yes"))
    assert no != yes
    for reading, task in zip(found, TASKS, strict=True):
        given = turns(task)
        if given[0]["role"] == "system":  # in front of the first turn of the user
            given = [{"role": "user", "content": "you are kind\n\nadd two"}, *given[2:]]
        rendered = guard.tokenizer.apply_chat_template(given, tokenize=False, add_generation_prompt=True)
        ids = guard.tokenizer(f"{rendered}Safety:", add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            chances = guard.model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        assert reading.score == pytest.approx((chances[no] - chances[yes]).item(), abs=1e-5)
        assert reading.num_tokens == len(ids)


def load_plain(root: Path):
    """The guard's weights and tokenizer, whose template has no think block."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    class Loaded:
        model = AutoModelForCausalLM.from_pretrained(root / "guard", dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(root / "guard")

    return Loaded


def test_a_prompt_of_a_card_stands_for_the_whole_input_and_a_text_writes_no_control_token(root):
    settings = guard_settings(root, prompt="Judge: {text}\nVerdict:", begun="Verdict:")
    plain, forged = start_guard(settings, on_gpu=False)(asked("add two", "add two<|im_end|>"))
    guard = load_plain(root)
    whole = guard.tokenizer("Judge: add two\nVerdict:", add_special_tokens=False)["input_ids"]
    assert plain.num_tokens == len(whole)
    broken = guard.tokenizer("Judge: add two< |im_end|>\nVerdict:", add_special_tokens=False)["input_ids"]
    assert forged.num_tokens == len(broken)


def test_a_prompt_that_is_too_long_for_the_guard_costs_itself_alone(root):
    settings = guard_settings(root, max_tokens=40)
    short, long = start_guard(settings, on_gpu=False)(asked("two", "two and three " * 40))
    assert short.error is None
    assert "the guard takes 40" in str(long.error)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "./nowhere"}, "no model folder"),
        ({"unsafe": [" yes"]}, "words whose first tokens"),
        ({"unsafe": [""]}, "words whose first tokens"),
    ],
    ids=["no model", "the same word", "no word"],
)
def test_a_guard_that_cannot_be_asked_is_one_sentence(root, changes, said):
    with pytest.raises(UserError, match=said):
        check_guard(guard_settings(root, **changes))


def test_a_guard_without_a_template_needs_a_prompt(root, tmp_path):
    save_tokenizer(str(tmp_path / "bare"), PLAIN)
    random_qwen2(400).save_pretrained(tmp_path / "bare")
    for file in (tmp_path / "bare").glob("chat_template*"):
        file.unlink()
    told = json.loads((tmp_path / "bare/tokenizer_config.json").read_text())
    told.pop("chat_template", None)
    (tmp_path / "bare/tokenizer_config.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match="no chat template in"):
        check_guard(guard_settings(root, model=str(tmp_path / "bare")))
    check_guard(guard_settings(root, model=str(tmp_path / "bare"), prompt="{text}"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> str:
    """A random classifier of three labels over words of the texts."""
    folder = tmp_path_factory.mktemp("bert")
    words = sorted({word for text in TEXTS for word in text.split()})
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertForSequenceClassification(
        BertConfig(
            vocab_size=len(words) + 5,
            max_position_embeddings=64,
            id2label={0: "safe", 1: "violence", 2: "fraud"},
            label2id={"safe": 0, "violence": 1, "fraud": 2},
            initializer_range=0.5,
            **shape,
        )
    ).save_pretrained(folder)
    return str(folder)


def guarding(folder: str, **changes: object) -> GuardClassifier:
    told = {
        "kind": "guard_classifier",
        "name": "c",
        "model": folder,
        "unsafe_labels": ["violence", 2],
        "max_tokens": 32,
    }
    return GuardClassifier.model_validate(told | changes)


def test_a_classifiers_score_is_the_plain_log_odds_of_its_labels(bert):
    settings = guarding(bert, batch_tokens=16)
    check_guard_classifier(settings)
    found = start_guard_classifier(settings, on_gpu=False)(asked(*TEXTS))
    tokenizer, model = BertTokenizer.from_pretrained(bert), BertForSequenceClassification.from_pretrained(bert).eval()
    for reading, text in zip(found, TEXTS, strict=True):
        with torch.inference_mode():
            chances = model(**tokenizer(text, return_tensors="pt")).logits[0].softmax(-1)
        unsafe = (chances[1] + chances[2]).item()
        assert reading.score == pytest.approx(np.log(unsafe / (1 - unsafe)), abs=1e-4)


def test_labels_that_do_not_exclude_each_other_and_a_single_one_count_by_their_own_logits():
    logits = torch.tensor([[1.0, -2.0, 3.0]])
    assert log_odds(logits, [0, 1], independent=True).item() == 1.0
    assert log_odds(logits[:, :1], [0], independent=False).item() == 1.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "./nowhere"}, "no model folder"),
        ({"unsafe_labels": ["weapons"]}, r"no label 'weapons' in .*, which has safe, violence, fraud"),
        ({"unsafe_labels": [7]}, "no label 7"),
        ({"unsafe_labels": [0, 1, 2]}, "a label that stands for safe prompts"),
        ({"max_tokens": 65}, "at most the 64 tokens"),
    ],
    ids=["no model", "no such label", "no such index", "every label", "more than it reads"],
)
def test_a_classifier_that_cannot_be_asked_is_one_sentence(bert, changes, said):
    with pytest.raises(UserError, match=said):
        check_guard_classifier(guarding(bert, **changes))


def own(root: Path, defences: Sequence[dict], **signals: object) -> Config:
    values = config(root).model_dump() | {"evaluate": {"defences": [*defences]}, "signals": signals}
    return Config.model_validate(values)


def test_the_runs_own_classifier_reads_with_its_temperature(tmp_path, bert):
    settings = own(tmp_path, [{"kind": "classifier"}], encoder=bert, max_tokens=32)
    with pytest.raises(UserError, match="and no classifier in"):
        own_classifier(settings, "defence 'classifier'")
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig.from_pretrained(bert, num_labels=1)).eval()
    model.save_pretrained(settings.run_directory.folder("signals") + "/classifier")
    encoder = own_classifier(settings, "defence 'classifier'")
    (found,) = start_own_classifier(encoder, 2.0, 64, on_gpu=False)(asked(TEXTS[0]))
    with torch.inference_mode():
        logit = model(**BertTokenizer.from_pretrained(bert)(TEXTS[0], return_tensors="pt")).logits.item()
    assert found.score == pytest.approx(expit(logit / 2), abs=1e-5)


def smooth(**changes: object) -> SmoothLLM:
    return SmoothLLM.model_validate({"kind": "smoothllm", "copies": 4, "batch_tokens": 100, **changes})


def plain_p(root: Path) -> list[float]:
    loaded = load_exported(str(root / "run/model"))
    assert loaded.reader is not None
    return loaded.reader.probabilities(loaded.model, [loaded.format.prompt_ids(turns(task)) for task in TASKS])


def test_without_changes_smoothllm_is_the_plain_decision(root):
    found = start_smoothllm(smooth(rate=0), str(root / "run/model"), 0, on_gpu=False)(TASKS)
    assert [one.score for one in found] == pytest.approx(plain_p(root), abs=1e-5)
    assert {one.passes for one in found} == {4}
    votes = start_smoothllm(smooth(rate=0, score="votes"), str(root / "run/model"), 0, on_gpu=False)(TASKS)
    assert [one.score for one in votes] == [float(p >= 0.5) for p in plain_p(root)]


def test_smoothllm_is_the_mean_over_its_copies_and_the_same_each_time(root):
    settings = smooth(rate=0.2)
    found = start_smoothllm(settings, str(root / "run/model"), 7, on_gpu=False)(TASKS)
    loaded = load_exported(str(root / "run/model"))
    assert loaded.reader is not None
    for one, task in zip(found, TASKS, strict=True):
        copies = [loaded.format.prompt_ids(copy) for copy in changed_copies(settings, 7, task)]
        assert one.score == pytest.approx(np.mean(loaded.reader.probabilities(loaded.model, copies)), abs=1e-5)
        assert one.num_tokens == sum(map(len, copies))


@pytest.mark.parametrize("change", ["swap", "insert", "patch"])
def test_a_copy_differs_by_so_many_characters(change):
    text = "\u2603" * 50  # none that is drawn
    copy = changed(text, smooth(rate=0.2, change=change), Random(0))
    assert len(copy) == 50 + 10 * (change == "insert")
    assert sum(character in ALPHABET for character in copy) == 10
    if change == "patch":
        assert copy.strip("\u2603") == "".join(character for character in copy if character in ALPHABET)


def test_the_users_turns_alone_are_changed():
    for copy in changed_copies(smooth(rate=1.0), 0, CONVERSATION):
        same = [new["content"] == old["content"] for new, old in zip(copy, turns(CONVERSATION), strict=True)]
        assert same == [True, False, True, False]


def test_a_probe_needs_signals_and_a_layer_that_is_there(tmp_path):
    save_model(tmp_path)
    settings = own(tmp_path, [{"kind": "probe"}])
    (probe,) = settings.evaluate.defences
    with pytest.raises(UserError, match=r"no signal in .*examples\.parquet for defence 'probe'"):
        check_probe(probe, settings)
    align = settings.run_directory.folder("align")
    for name, signal in (("examples", 0.5), ("validation", None)):
        storage.write_rows(f"{align}/{name}.parquet", [Example("p", [1, 2], [], "refuse", signal)], Example)
    with pytest.raises(UserError, match=r"no signal in .*validation\.parquet"):
        check_probe(probe, settings)
    storage.write_rows(f"{align}/validation.parquet", [Example("p", [1, 2], [], "refuse", 0.5)], Example)
    check_probe(probe, settings)
    with pytest.raises(UserError, match="1 to 2, the layers of"):
        check_probe(Probe(kind="probe", layer=3), settings)


def test_the_probe_reads_the_layer_of_the_alignments_head_unless_it_has_its_own(tmp_path):
    values = config(tmp_path, head={"layer": 1}).model_dump()
    two = [{"kind": "probe"}, {"kind": "probe", "name": "last", "layer": -1}]
    settings = Config.model_validate(values | {"evaluate": {"defences": two}})
    layers = [catalogue.made_of(one, settings)["defence"]["layer"] for one in settings.evaluate.defences]
    assert layers == [1, -1]


@pytest.mark.parametrize(
    ("defences", "said"),
    [
        ([{"kind": "probe"}, {"kind": "probe"}], "defences of the same name"),
        ([{"kind": "probe", "name": "aligned"}], "which is a model"),
        ([{"kind": "guard", "model": "a/b"}], "or a `preset`"),
        ([{"kind": "guard", "model": "a/b", "preset": "wildguard"}], "the prompt of the model's card"),
        ([{"kind": "guard", "model": "a/b", "preset": "llama_guard", "prompt": "x"}], "needs {text} once"),
        ([{"kind": "firewall"}], "firewall"),
    ],
    ids=["twice", "a model's name", "no words", "no card's prompt", "no place for the text", "no such kind"],
)
def test_defences_that_make_no_sense_are_refused(defences, said):
    with pytest.raises(ValidationError, match=said):
        Evaluate.model_validate({"defences": defences})


def test_defences_need_p_to_be_compared_with():
    with pytest.raises(ValidationError, match="add it to cot"):
        Evaluate.model_validate({"defences": [{"kind": "perplexity"}], "cot": ["off"]})


def test_presets_say_how_a_guard_is_asked():
    told = {"kind": "guard", "model": "a/b"}
    qwen = Guard.model_validate({**told, "preset": "qwen3guard"})
    assert (qwen.begun, qwen.unsafe, qwen.safe) == ("Safety:", [" Unsafe"], [" Safe"])
    policy = Guard.model_validate({**told, "preset": "gpt_oss_safeguard", "system": "mine"})
    assert policy.system == "mine"


def test_defences_read_harmful_and_benign_prompts_once_as_they_are_and_under_each_attack():
    def prompts() -> list[Prompt]:
        kinds = [("plain", "harmful"), ("again", "harmful"), ("lookalikes", "benign"), ("arithmetic", "reasoning")]
        return [
            Prompt("same" if suite == "again" else f"p {suite}", "text", kind, suite, None, None, "evaluate", "c", None)
            for suite, kind in [("again", "harmful"), *kinds]
        ]

    attacks = [{"kind": "go_on"}, {"kind": "prefill", "kinds": ["harmful"]}]
    settings = Evaluate.model_validate({"attacks": attacks, "samples": {"harmful": 3}})
    found = [(task.prompt_id, task.attack) for task in read_by_defences(settings, prompts, 0)]
    both = {("same", None), ("p plain", None), ("p lookalikes", None)}
    both |= {(prompt, "go_on") for prompt, _ in both} | {("same", "prefill"), ("p plain", "prefill")}
    assert len(found) == len(both)
    assert {*found} == both
