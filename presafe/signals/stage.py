"""Stage `signals` (paper, Fig. 3, step 1): `signals.parquet` with p_j = P(refuse | query_j), and `report.json`."""

from functools import partial

import torch

from presafe import storage
from presafe.config import Config
from presafe.errors import user_error
from presafe.records import Prompt, Signal, TeacherAnswer
from presafe.runtime import connect, demand, model_folder, preflight
from presafe.signals.classifier import encoder_spec
from presafe.signals.metrics import accuracy, auroc, expected_calibration_error, fit_temperature
from presafe.signals.scoring import score_prompts
from presafe.signals.train import Labelled, train_classifier
from presafe.stages import Rows, run_stage


def run_signals(config: Config, *, force: bool = False) -> None:
    """Run the stage; its output is signals.parquet (Signal), classifier/ and report.json."""
    settings = config.stage_settings("signals")
    inputs = ("prompts", "teacher")
    run_stage(config.run_directory, "signals", settings, partial(_signals, config), inputs=inputs, force=force)


def _signals(config: Config, folder: str) -> Rows:
    connect(config.cluster)
    preflight(demand("signals", config.signals.workers))
    prompt_file = storage.join(config.run_directory.folder("prompts"), "prompts.parquet")
    prompts = [prompt for prompt in storage.read_rows(prompt_file, Prompt) if prompt.split != "evaluate"]
    answer_file = storage.join(config.run_directory.folder("teacher"), "answers.parquet")
    decisions = {row.prompt_id: row.decision for row in storage.read_rows(answer_file, TeacherAnswer)}
    scored = [p for p in prompts if decisions.get(p.prompt_id, "unscored") != "unscored"]
    training = [p for p in scored if p.split == "classifier"]
    held_out = [p for p in scored if p.split == "validation"]
    _check_both_decisions([decisions[p.prompt_id] for p in training])

    spec = encoder_spec(config.signals, model_folder(config))
    rows = [Labelled(p.text, float(decisions[p.prompt_id] == "refuse")) for p in training]
    classifier = train_classifier(rows, folder, spec, config.signals, config.run.seed)
    logits = score_prompts(prompt_file, classifier, storage.join(folder, "scores"), spec, config.signals.workers)

    half = len(held_out) // 2  # one half fits the temperature, the other one reports
    labels = [int(decisions[p.prompt_id] == "refuse") for p in held_out]
    held_out_logits = [logits[p.prompt_id] for p in held_out]
    temperature = fit_temperature(held_out_logits[:half], labels[:half])
    labels, held_out_logits = labels[half:], held_out_logits[half:]
    raw, calibrated = _sigmoid(held_out_logits, 1.0), _sigmoid(held_out_logits, temperature)
    report = {
        "split": "second half of validation",
        "n": len(labels),
        "auroc": auroc(raw, labels),
        "accuracy": accuracy(raw, labels),
        "ece_before": expected_calibration_error(raw, labels),
        "ece_after": expected_calibration_error(calibrated, labels),
        "temperature": temperature,
    }
    storage.write_json(storage.join(folder, "report.json"), report)
    trained = {p.prompt_id for p in training}
    probabilities = _sigmoid([logits[p.prompt_id] for p in prompts], temperature)
    signals = [
        Signal(p.prompt_id, probability, decisions.get(p.prompt_id, "unscored"), None, p.prompt_id in trained)
        for p, probability in zip(prompts, probabilities, strict=True)
    ]
    storage.write_rows(storage.join(folder, "signals.parquet"), signals, Signal)
    return {"signals": len(signals), "classifier_training": len(training), "validation": len(held_out)}


def _check_both_decisions(decisions: list[str]) -> None:
    refusals = decisions.count("refuse")
    if refusals == 0 or refusals == len(decisions):
        raise user_error(
            found=f"{refusals} refusals among {len(decisions)} teacher decisions of the classifier split",
            needed="refusals and compliances, else there is nothing to learn",
            change="add harmful or benign prompts, or check the judge on teacher/answers.parquet",
        )


def _sigmoid(logits: list[float], temperature: float) -> list[float]:
    values: list[float] = torch.sigmoid(torch.tensor(logits, dtype=torch.float64) / temperature).tolist()
    return values
