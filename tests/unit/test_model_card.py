"""The model card says what the card holds, and nothing that it does not."""

import pytest
import yaml

from presafe.align.export.model_card import base_license, model_card
from presafe.engines.card import Calibration, Card, HeadCard, RoundTrip, VocabularyRow, read_card, write_card

TRIP = RoundTrip(prompts=4, logits=2e-7, head=1e-7, largest_logit=3.0, tolerance=1e-4)
ROW = VocabularyRow(token_id=99, suppressed=[98, 99], bias=0.5, logit_threshold=0.25, probability_error=0.02)


def card(**changes: object) -> Card:
    return Card.model_validate(
        {
            "base_model": "organisation/base",
            "dtype": "bfloat16",
            "think_format": {},
            "threshold": 0.25,
            "max_over_refusal": 0.01,
            "over_refusal": 0.005,
            "refusal": "no",
            "config_hash": "abc",
            "metrics": {"step": 6, "probe_auroc": 0.75},
            "training": {"objective": "signals", "labels": "classifier", "lora": {"r": 4}, "seed": 7},
            "data": {"refuse_examples": 20},
            "versions": {"torch": "2.13"},
            "round_trip": {"adapter": TRIP},
            **changes,
        }
    )


def test_the_page_says_what_was_trained_and_measured():
    _, front, page = model_card(card(), None).split("---\n", 2)
    fields = yaml.safe_load(front)
    assert fields["base_model"] == "organisation/base"
    assert (fields["library_name"], fields["license"]) == ("peft", "unknown")
    facts = ["| objective | signals |", "refuse examples | 20 |", "`lora.r`: 4", "`seed`: 7", "| probe_auroc | 0.75 |"]
    facts += ["Threshold 0.25 ", "refuses 0.50 % of the benign", "torch 2.13", "| `adapter/` | 4 | 2e-07 (3) | 1e-07 |"]
    for fact in facts:
        assert fact in page, fact
    assert "merged-gate" not in page
    assert "control" not in page


def test_what_is_unknown_is_not_invented():
    page = model_card(card(training={}, over_refusal=None, metrics={}), None)
    assert "| objective | unknown |" in page
    assert "benign validation prompts, at most" not in page


def test_the_threshold_stands_with_its_bound_and_what_a_lower_one_takes():
    counted = Calibration(prompts=120, refused=1, over_refusal_bound=0.0389)
    page = model_card(card(calibration=counted), None)
    assert "refuses 1 of 120 benign validation prompts (0.83 %, at most 1.00 % were allowed)" in page
    assert "at most 3.89 % of prompts drawn as they were. To show at most 1.00 % takes at least 299 of them" in page


@pytest.mark.parametrize(("allowed", "bound"), [(0.0, 0.01), (0.05, 0.04)])
def test_nothing_is_asked_for_that_cannot_be_had_or_is_there_already(allowed, bound):
    counted = Calibration(prompts=120, refused=0, over_refusal_bound=bound)
    assert "To show" not in model_card(card(max_over_refusal=allowed, calibration=counted), None)


def test_a_control_says_so():
    assert "**A control, not for use**" in model_card(card(training={"labels": "random"}), None)


@pytest.mark.parametrize(("error", "warned"), [(0.02, True), (0.001, False)])
def test_a_row_that_rounding_costs_much_is_warned_of(error, warned):
    row = ROW.model_copy(update={"probability_error": error})
    page = model_card(card(round_trip={"adapter": TRIP, "merged-gate": TRIP}), row)
    assert ("**Warning**" in page) == warned
    assert "98, 99 must never be sampled" in page


def test_a_readout_head_has_no_weights_to_list():
    page = model_card(card(head=HeadCard(kind="readout"), weights="full"), None)
    assert "safety_head" not in page
    assert "`full/` | all weights" in page


def test_the_licence_is_the_bases_own(tmp_path):
    assert base_license(str(tmp_path)) == "unknown"
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# Base\n")
    assert base_license(str(tmp_path)) == "mit"
    (tmp_path / "README.md").write_text("# Base\n")
    assert base_license(str(tmp_path)) == "unknown"


def test_a_base_that_the_runs_storage_held_is_found_where_the_storage_lies_now(tmp_path):
    model = tmp_path / "now" / "run" / "model"
    model.mkdir(parents=True)
    write_card(str(model), card(base_model=f"{tmp_path}/before/models/organism-1"))
    assert read_card(str(model)).base_model == f"{tmp_path}/before/models/organism-1"
    (tmp_path / "now" / "models" / "organism-1").mkdir(parents=True)
    assert read_card(str(model)).base_model == f"{tmp_path}/now/models/organism-1"
    (tmp_path / "before" / "models" / "organism-1").mkdir(parents=True)
    assert read_card(str(model)).base_model == f"{tmp_path}/before/models/organism-1"
    write_card(str(model), card(base_model="models/organism-1"))
    assert read_card(str(model)).base_model == "models/organism-1"
