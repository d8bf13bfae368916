"""Stage `signals` with two data-parallel ranks: it learns the teacher's decisions and scores every prompt."""

import json
from pathlib import Path

import pytest

from presafe import storage
from presafe.config import Config
from presafe.errors import UserError
from presafe.records import Prompt, Signal, TeacherAnswer
from presafe.signals import run_signals
from presafe.stages import run_stage
from run_directory import save_model

SPLITS = ["classifier"] * 121 + ["validation"] * 40 + ["align"] * 39


def config(root: Path) -> Config:
    return Config.model_validate(
        {
            "run": {"name": "run", "storage": str(root)},
            "model": {"path": str(root / "base")},
            "prompts": {"sources": [{"name": "s", "function": "m:f"}], "suites": [{"name": "e", "function": "m:f"}]},
            "signals": {
                "workers": {"num_workers": 2},
                "encoder": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
                "learning_rate": 0.003,
                "epochs": 4,
                "batch_size": 8,
                "max_tokens": 32,
            },
        }
    )


def finish_earlier_stages(settings: Config, *, one_sided: bool = False) -> None:
    """The teacher refuses what asks for a lamp; every tenth answer is unscored."""
    prompts, answers = [], []
    for k, split in enumerate(SPLITS):
        text = f"please add {k} {'lamp' if k % 2 else 'kite'}"
        prompts.append(Prompt(f"p{k}", text, "harmful" if k % 2 else "benign", "s", None, None, split, text, None))
        decision = "unscored" if k % 10 == 0 else "refuse" if k % 2 or one_sided else "comply"
        answers.append(TeacherAnswer(f"p{k}", 0, "", "stop", 1, decision, "test"))
    for stage, name, rows, record in (
        ("prompts", "prompts", prompts, Prompt),
        ("teacher", "answers", answers, TeacherAnswer),
    ):
        run_stage(
            settings.run_directory,
            stage,
            {},
            lambda folder, n=name, r=rows, c=record: (storage.write_rows(f"{folder}/{n}.parquet", r, c), {})[1],
        )


@pytest.mark.usefixtures("local_ray")
def test_the_classifier_learns_the_decisions_and_scores_every_prompt(tmp_path):
    save_model(tmp_path)
    settings = config(tmp_path)
    finish_earlier_stages(settings)
    run_signals(settings)
    folder = settings.run_directory.folder("signals")
    signals = {row.prompt_id: row for row in storage.read_rows(f"{folder}/signals.parquet", Signal)}
    assert len(signals) == len(SPLITS)
    trained = {i for i, row in signals.items() if row.in_classifier_training}
    assert trained == {f"p{k}" for k, split in enumerate(SPLITS) if split == "classifier" and k % 10}
    unseen = [(k, signals[f"p{k}"].refuse_probability) for k, split in enumerate(SPLITS) if split == "align"]
    assert all((probability > 0.5) == bool(k % 2) for k, probability in unseen)
    report = json.loads(Path(folder, "report.json").read_text())
    assert report["auroc"] == 1.0
    assert report["n"] == 18


@pytest.mark.usefixtures("local_ray")
def test_decisions_of_one_kind_teach_nothing(tmp_path):
    save_model(tmp_path)
    settings = config(tmp_path)
    finish_earlier_stages(settings, one_sided=True)
    with pytest.raises(UserError, match=r"found (\d+) refusals among \1 teacher decisions"):
        run_signals(settings)
