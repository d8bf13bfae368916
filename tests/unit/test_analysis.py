"""What an analysis says: updates against merged weights, probes on known data, agreement and cost by hand."""

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from presafe import storage
from presafe.analysis.agreement import Agreement, agreements, read_decisions
from presafe.analysis.balance import balances, goodness
from presafe.analysis.layers import areas_by_layer, probed
from presafe.analysis.report import FIGURES, markdown, text
from presafe.analysis.spending import spent
from presafe.analysis.updates import Update, by_projection, of_adapter, of_full_weights
from presafe.defences.states import last_states, last_states_of_layers
from presafe.records import EvalRecord
from run_directory import config
from support import random_qwen2

VOCABULARY = 64


@pytest.mark.parametrize("rslora", [False, True])
def test_updates_of_an_adapter_are_those_of_the_merged_weights(tmp_path, rslora):
    base, model = random_qwen2(VOCABULARY), random_qwen2(VOCABULARY)
    settings = LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "up_proj"], use_rslora=rslora)
    adapted = get_peft_model(model, settings)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    merged = adapted.merge_and_unload()
    merged.save_pretrained(tmp_path / "full")
    found = [*of_adapter(base.state_dict(), str(tmp_path / "adapter"))]
    assert {(one.layer, one.projection) for one in found} == {(k, p) for k in (1, 2) for p in ("q_proj", "up_proj")}
    full = {
        (one.layer, one.projection): one.relative for one in of_full_weights(base.state_dict(), str(tmp_path / "full"))
    }
    assert full[1, "k_proj"] == 0
    for one in found:
        assert one.relative > 0.01
        assert one.relative == pytest.approx(full[one.layer, one.projection], rel=1e-4)


def test_updates_of_a_projection_are_in_the_order_of_the_layers():
    found = by_projection([Update(3, "up_proj", 0.3), Update(1, "up_proj", 0.1), Update(2, "q_proj", 0.2)])
    assert found == {"up_proj": [0.1, None, 0.3], "q_proj": [None, 0.2, None]}


@pytest.mark.parametrize("most", [1, 10_000])
def test_states_of_all_layers_are_those_of_each(most):
    model = random_qwen2(VOCABULARY).eval()
    prompts = [[3, 4, 5, 6], [7], [8, 9]]
    every = last_states_of_layers(model, prompts, most)
    assert every.shape == (2, 3, 32)
    torch.testing.assert_close(every[0], last_states(model, prompts, most, layer=1))
    torch.testing.assert_close(every[1], last_states(model, prompts, most, layer=-1))


def separable(n: int, apart: float, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    draw = np.random.default_rng(seed)
    harmful = np.arange(n) % 2 == 0
    states = draw.normal(size=(n, 8)) * [5, 1, 1, 1, 1, 1, 1, 1]
    states[:, 3] += apart * harmful
    return torch.tensor(states), harmful


def test_a_probe_finds_the_direction_that_tells_harmful_from_benign():
    (states, harmful), (tried, wanted) = separable(400, 6.0, seed=0), separable(200, 6.0, seed=1)
    found = probed(states, harmful, tried)
    assert roc_auc_score(wanted, found.scores) > 0.99
    assert roc_auc_score(wanted, found.along) == pytest.approx(roc_auc_score(wanted, found.scores))
    assert abs(np.corrcoef(found.along, found.across)[0, 1]) < 0.2
    assert abs(roc_auc_score(wanted, found.across) - 0.5) < 0.1


def test_areas_are_of_both_models_on_the_same_prompts():
    (states, harmful), (tried, wanted) = separable(400, 6.0, seed=0), separable(200, 6.0, seed=1)
    blind = probed(separable(400, 0.0, seed=2)[0], harmful, separable(200, 0.0, seed=3)[0])
    seeing = probed(states, harmful, tried)
    first, second = areas_by_layer([blind, seeing], [seeing, seeing], wanted, [str(k) for k in range(200)])
    assert (first.layer, second.layer) == (1, 2)
    assert first.aligned.value == pytest.approx(roc_auc_score(wanted, seeing.scores))
    assert first.base.value == pytest.approx(roc_auc_score(wanted, blind.scores))
    assert first.difference.low > 0.3
    assert first.p < 0.001
    assert second.difference.value == 0
    assert second.p == 1


def record(prompt: str, **changes: object) -> EvalRecord:
    values = {
        "suite": "plain",
        "prompt_id": prompt,
        "attack": "none",
        "model": "aligned",
        "cot": "on",
        "gate": "off",
        "sample": 0,
        "decoding": "",
        "reasoning": "",
        "answer": "",
        "refused_before_cot": False,
        "head_probability": 0.0,
        "verdict": "comply",
        "judge": "",
        "num_tokens": 10,
        "truncated": False,
        **changes,
    }
    return EvalRecord(**values)


def finished(root, records):
    run = config(root).run_directory
    storage.write_rows(storage.join(run.folder("evaluate"), "records.parquet"), records, EvalRecord)
    return run


def test_who_decides_what_is_read_off_the_records(tmp_path):
    run = finished(
        tmp_path,
        [
            record("a", model="base", cot="off", verdict="refuse"),
            record("b", model="base", cot="off", verdict="comply"),
            record("c", model="base", cot="off", verdict="unscored"),
            record("a", head_probability=0.8, refused_before_cot=True),
            record("b", head_probability=0.8),
            record("c", head_probability=0.1, refused_before_cot=True),
            record("d", head_probability=0.9, attack="go_on"),
            record("a", head_probability=0.0, sample=1),
            record("a", head_probability=0.0, gate="on"),
            record("e", suite="wrapped", attack="wrappers", head_probability=0.7),
        ],
    )
    found = read_decisions(run, {"plain": "none", "wrapped": "wrappers"}, 0.7)
    assert found["plain"] == {
        "teacher": {"a": True, "b": False},
        "classifier": {},
        "head": {"a": True, "b": True, "c": False},
        "model": {"a": True, "b": False, "c": True},
    }
    assert found["wrapped"]["head"] == {"e": True}


def test_agreement_is_cohens():
    draw = np.random.default_rng(0)
    one, other = draw.random(50) < 0.6, draw.random(50) < 0.4
    decisions = {"teacher": dict(enumerate(one.tolist())), "head": dict(enumerate(other.tolist()))}
    (found,) = agreements({"plain": {"classifier": {}, "model": {}, **decisions}})
    assert (found.first, found.second, found.n) == ("teacher", "head", 50)
    assert found.share == pytest.approx((one == other).mean())
    assert found.low < found.share < found.high
    assert found.kappa == pytest.approx(cohen_kappa_score(one, other))


def test_of_two_that_say_one_thing_only_kappa_is_undefined():
    both = {"teacher": {"a": True}, "head": {"a": True}, "classifier": {}, "model": {}}
    (found,) = agreements({"plain": both})
    assert isinstance(found, Agreement)
    assert (found.share, found.kappa) == (1, None)


def test_tokens_are_compared_on_the_same_prompts(tmp_path):
    run = finished(
        tmp_path,
        [
            record("a", model="base", num_tokens=100),
            record("a", model="base", num_tokens=60, sample=1),
            record("b", model="base", num_tokens=40),
            record("c", model="base", num_tokens=9000),
            record("a", num_tokens=10),
            record("b", num_tokens=20),
            record("b", num_tokens=9000, cot="off"),
        ],
    )
    (found,) = spent(run, {"plain": "none"})
    assert (found.n, found.base, found.aligned, found.ratio) == (2, 60, 15, 0.25)
    assert found.low == pytest.approx(10 / 80)
    assert found.high == pytest.approx(20 / 40)


def measurement(suite: str, metric: str, value: float | None, **changes: object) -> dict[str, object]:
    arm = {"model": "aligned", "cot": "on", "gate": "off", "attack": "none", "k": 1, "category": None}
    return {"suite": suite, "metric": metric, "value": value, **arm, **changes}


MEASUREMENTS = [
    measurement("plain", "attack_success_rate", 0.1),
    measurement("wrapped", "attack_success_rate", 0.3),
    measurement("wrapped", "attack_success_rate", 0.9, attack="go_on"),
    measurement("unscored", "attack_success_rate", None),
    measurement("alike", "over_refusal_rate", 0.05),
    measurement("sums", "reasoning_accuracy", 0.9),
    measurement("sums", "reasoning_accuracy", 1.0, k=4),
    measurement("plain", "attack_success_rate", 0.8, model="base"),
]


def test_an_arm_is_the_mean_of_its_suites_as_they_are():
    found = {one.arm: one for one in balances(MEASUREMENTS)}
    assert [*found] == ["base, CoT on", "aligned, CoT on"]
    aligned = found["aligned, CoT on"]
    assert (aligned.attack_success_rate, aligned.over_refusal_rate, aligned.reasoning_accuracy) == (0.2, 0.05, 0.9)
    assert found["base, CoT on"].over_refusal_rate is None
    assert goodness(MEASUREMENTS)["aligned, CoT on"] == {"plain": 0.9, "wrapped": 0.7, "alike": 0.95, "sums": 0.9}


@pytest.mark.parametrize("updates", [[], [Update(1, "q_proj", 0.1), Update(2, "q_proj", 0.3)]])
def test_a_report_has_every_table_and_figure(updates):
    states, harmful = separable(60, 3.0, seed=0)
    probe = probed(states, harmful, states)
    areas = [*areas_by_layer([probe, probe], [probe, probe], harmful, [str(k) for k in range(60)])]
    places = [[*zip(probe.along.tolist(), probe.across.tolist(), strict=True)]] * 2
    found = {
        "run": "test",
        "updates": [asdict(one) for one in updates],
        "areas": [asdict(one) for one in areas],
        "fitted": 60,
        "kinds": ["harmful" if one else "benign" for one in harmful],
        "planes": {"base": places, "aligned": places},
        "agreement": [asdict(Agreement("plain", "teacher", "model", 9, 0.9, 0.5, 1.0, None))],
        "spent": [],
        "balance": [asdict(one) for one in balances(MEASUREMENTS)],
        "goodness": goodness(MEASUREMENTS),
    }
    for draw in FIGURES.values():
        assert ElementTree.fromstring(draw(found)).tag.endswith("svg")
    written = markdown(found)
    assert "| plain | - | - | 90.0 (-) |" in written
    assert ("| q_proj | 20.00 | 10.00 | 20.00 | 30.00 |" in written) == bool(updates)
    assert all(part in text(found) for part in ("aligned, CoT on", "20.0", "teacher, model"))
    assert not any(math.isnan(value) for one in areas for value in one.base)
