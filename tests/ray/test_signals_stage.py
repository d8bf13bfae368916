"""Stage `signals` with two data-parallel ranks: it learns the teacher's decisions and scores every prompt."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from finished_stage import finish
from transformers import AutoModelForSequenceClassification

from presafe import storage
from presafe.config import Config, Signals, Workers
from presafe.errors import UserError
from presafe.records import Prompt, Signal, TeacherAnswer
from presafe.signals import run_signals
from presafe.signals.baselines import FROZEN, TFIDF
from presafe.signals.classifier import EncoderSpec, classifier_tokenizer, logits
from presafe.signals.loss import Labelled
from presafe.signals.train import train_classifier
from presafe.suites import suite_file
from run_directory import save_model

SPLITS = ["classifier"] * 121 + ["validation"] * 40 + ["align"] * 39 + ["evaluate"] * 20


def config(root: Path) -> Config:
    return Config.model_validate(
        {
            "run": {"name": "run", "storage": str(root)},
            "model": {"path": str(root / "base")},
            "suites": [{"name": "e", "function": "m:f"}],
            "prompts": {"sources": [{"name": "s", "function": "m:f"}]},
            "signals": {
                "workers": {"num_workers": 2},
                "encoder": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
                "learning_rate": 0.003,
                "epochs": 6,
                "batch_size": 8,
                "max_tokens": 32,
                "noise_tokens": 2,
            },
        }
    )


def finish_earlier_stages(settings: Config, *, one_sided: bool = False) -> None:
    """The teacher refuses what asks for a lamp; every tenth prompt is unscored in all its three samples.

    Of a third of the prompts one sample disagrees. Half of the validation prompts stand in a held-out wrapper.
    """
    prompts, answers = [], []
    for k, split in enumerate(SPLITS):
        text, kind = f"please add {k} {'lamp' if k % 2 else 'kite'}", "harmful" if k % 2 else "benign"
        source = "suite" if split == "evaluate" else "refused" if k % 4 == 1 else "mixed"
        wrapper = "held" if split == "validation" and k % 4 < 2 else "known"
        prompts.append(Prompt(f"p{k}", text, kind, source, None, None, split, text, wrapper))
        for sample in range(3 if split != "evaluate" else 0):
            refuses = k % 2 or one_sided if not (k % 3 == 0 and sample == 0) else not k % 2 and not one_sided
            decision = "unscored" if k % 10 == 0 else "refuse" if refuses else "comply"
            answers.append(TeacherAnswer(f"p{k}", sample, "", "decided", 1, decision, "test"))
    if one_sided:
        answers = [replace(row, decision="refuse") if row.decision == "comply" else row for row in answers]
    cot_on = [
        TeacherAnswer("p121", 0, "", "stop", 1, "comply", "test"),
        TeacherAnswer("p122", 0, "", "stop", 1, "comply", "test"),
    ]
    suites = [prompt for prompt in prompts if prompt.split == "evaluate"]
    storage.write_rows(suite_file(settings.run_directory), suites, Prompt)
    training = [prompt for prompt in prompts if prompt.split != "evaluate"]
    files = {
        "prompts": {"prompts": (training, Prompt)},
        "teacher": {"answers": (answers, TeacherAnswer), "answers_cot_on": (cot_on, TeacherAnswer)},
    }
    for stage, outputs in files.items():

        def write(folder: str, outputs: dict = outputs) -> dict[str, int]:
            for name, (rows, record) in outputs.items():
                storage.write_rows(f"{folder}/{name}.parquet", rows, record)
            return {}

        finish(settings.run_directory, stage, write)
    templates = [{"template_id": "held", "held_out": True}, {"template_id": "known", "held_out": False}]
    storage.write_json(f"{settings.run_directory.folder('prompts')}/wrappers.json", templates)


@pytest.mark.usefixtures("local_ray")
def test_the_classifier_learns_the_decisions_and_scores_every_prompt(tmp_path):
    save_model(tmp_path)
    settings = config(tmp_path)
    finish_earlier_stages(settings)
    run_signals(settings)
    folder = settings.run_directory.folder("signals")
    signals = {row.prompt_id: row for row in storage.read_rows(f"{folder}/signals.parquet", Signal)}
    assert signals.keys() == {f"p{k}" for k, split in enumerate(SPLITS) if split != "evaluate"}
    trained = {i for i, row in signals.items() if row.in_classifier_training}
    assert trained == {f"p{k}" for k, split in enumerate(SPLITS) if split == "classifier" and k % 10}
    assert (signals["p3"].teacher_decision, signals["p3"].teacher_refuse_share) == ("refuse", pytest.approx(2 / 3))
    assert (signals["p10"].teacher_decision, signals["p10"].teacher_refuse_share) == ("unscored", None)
    unseen = [(k, signals[f"p{k}"].refuse_probability) for k, split in enumerate(SPLITS) if split == "align"]
    assert all((probability > 0.5) == bool(k % 2) for k, probability in unseen)
    report = json.loads(Path(folder, "report.json").read_text())
    assert (report["auroc"], report["n"]) == (1.0, 18)
    assert report["held_out_wrappers"]["n"] == sum(k % 4 < 2 and k % 10 > 0 for k in range(121, 161))
    assert (report["cot_on"]["n"], report["cot_on"]["accuracy"]) == (2, 0.5)
    suites = json.loads(Path(folder, "suites.json").read_text())
    table = suites["classifier"]["table"]
    assert {(row["kind"], row["flagged"]) for row in table} == {("harmful", 1.0), ("benign", 0.0)}
    assert set(suites) == {"classifier", FROZEN, TFIDF}
    assert all(row["auroc"] > 0.9 for row in suites.values())
    assert report["teacher"]["unscored_answers"] == 3 * sum(k % 10 == 0 for k in range(200))
    assert set(report["baselines"]) == {FROZEN, TFIDF}
    assert "![Reliability](reliability.svg)" in Path(folder, "report.md").read_text()
    assert Path(folder, "reliability.svg").read_text().startswith("<svg")
    the_left_out_source_is_never_seen(report["leave_one_source_out"], folder)


def the_left_out_source_is_never_seen(table: list[dict], folder: str) -> None:
    assert table[0] == {"source": "mixed", "skipped": "the other sources hold one decision alone"}
    own = f"{folder}/leave_one_out/1"
    seen = [row for name in ("labelled", "stopping") for row in storage.read_rows(f"{own}/{name}.parquet", Labelled)]
    assert {row.source for row in seen} == {"mixed"}
    tested = sum(k % 4 == 1 and k % 10 > 0 for k in range(161))
    assert (table[1]["source"], table[1]["n"], table[1]["refusals"]) == ("refused", tested, tested)
    assert table[1]["accuracy"] > 0.9
    assert table[1]["auroc"] > 0.9


@pytest.mark.usefixtures("local_ray")
def test_two_ranks_train_the_classifier_of_one(tmp_path):
    """Without dropout, so that both runs compute the same thing."""
    save_model(tmp_path)
    spec = EncoderSpec(str(tmp_path / "base"), str(tmp_path / "base"), 32)
    rows = [Labelled(f"p{k}", "s", f"please add {k} {'lamp' if k % 2 else 'kite'}", float(k % 2)) for k in range(29)]
    found = {}
    for world in (1, 2):
        settings = Signals(workers=Workers(num_workers=world), learning_rate=1e-3, epochs=2, batch_size=8)
        trained = train_classifier(rows[:22], rows[22:], str(tmp_path / str(world)), spec, settings, seed=0)
        model = AutoModelForSequenceClassification.from_pretrained(trained.folder)
        with torch.no_grad():
            found[world] = trained.losses, logits(model, classifier_tokenizer(spec), [row.text for row in rows], 32)
    assert found[1][0] == pytest.approx(found[2][0], abs=1e-4)
    torch.testing.assert_close(found[1][1], found[2][1], atol=1e-3, rtol=1e-3)


@pytest.mark.usefixtures("local_ray")
def test_decisions_of_one_kind_teach_nothing(tmp_path):
    save_model(tmp_path)
    settings = config(tmp_path)
    finish_earlier_stages(settings, one_sided=True)
    with pytest.raises(UserError, match=r"found (\d+) refusals among \1 teacher decisions"):
        run_signals(settings)
