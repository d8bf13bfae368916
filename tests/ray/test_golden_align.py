"""Stage `align` through the command line: losses and gradient norms as stored, and as plain PyTorch's with AdamW.

`PRESAFE_WRITE_GOLDEN=1 pytest tests/ray/test_golden_align.py` stores what the command line gives, once it agrees with
plain PyTorch. Another CPU rounds otherwise: without vector instructions (ATEN_CPU_CAPABILITY=default) the values move
by at most 5e-7 of what TOLERANCE is relative to.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from plain_training import Plain
from presafe import storage
from presafe.align.module.build import head_spec
from presafe.align.module.collate import Collator
from presafe.align.train.plan import batch_plan
from presafe.align.train.rows import ExampleRows
from presafe.config import Config
from presafe.engines.exported import load_tokenizer
from presafe.records import Example
from presafe.runtime import LOCAL_ENV
from presafe.thinking import think_format
from run_directory import config, finish_earlier_stages, save_model

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/align.json"
STEPS, KL_WEIGHT = 10, 0.5
TOLERANCE = 1e-4
"""Relative to a value, or to 0.1 where it is less: an anchor at its start is rounding and little else."""
PARTS = ("loss", "lm_loss", "align_loss", "anchor_loss", "grad_norm")
COMMON = {
    "steps": STEPS,
    "checkpoint_every": STEPS,
    "signal_batch_size": 3,
    "max_refuse_examples": 8,
    "max_think_examples": 8,
    "lora": {"r": 4, "alpha": 8, "dropout": 0.0},
    "weight": 0.5,
}
CASES = {
    "linear head, presafe": {**COMMON, "zero_stage": 2},
    "readout head, signals": {
        **COMMON,
        "zero_stage": 3,
        "objective": "signals",
        "head": {"kind": "readout", "kl_weight": KL_WEIGHT},
    },
}


def command_line(folder: Path, settings: Config) -> list[dict[str, float]]:
    """Rows of metrics.jsonl after `presafe align` in a process and a Ray cluster of its own, with two workers."""
    save_model(folder)
    finish_earlier_stages(settings)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    command = [str(Path(sys.executable).parent / "presafe"), "align", "--config", str(path)]
    environment = {**os.environ, **LOCAL_ENV, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in (folder / "run/align/metrics.jsonl").read_text().splitlines()]


def plain_pytorch(settings: Config) -> list[dict[str, float]]:
    """The same steps with AdamW, under a learning rate that warms up for one step and falls along a cosine."""
    align, seed = settings.align, settings.run.seed
    examples = storage.read_rows(f"{settings.run_directory.folder('align')}/examples.parquet", Example)
    tokenizer = load_tokenizer(str(settings.model.path))
    think = think_format(tokenizer)
    collator = Collator.of(think, tokenizer.pad_token_id)
    plan = batch_plan(ExampleRows.of(examples), align, seed, collator)
    plain = Plain(
        str(settings.model.path),
        align,
        head_spec(align, think.decision_token),
        seed,
        collator,
        lambda _: (align.weight, KL_WEIGHT),
    )

    def adamw(module):
        trained = [p for p in module.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=align.learning_rate, weight_decay=0.0)

    steps = [[examples[i] for i in plan.sequences(step)] for step in range(STEPS)]
    rows = plain.train(steps, adamw, lambda step: 0.5 * (1 + math.cos(math.pi * step / STEPS)))
    return [vars(row) for row in rows]


def close(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    off = {}
    for part in PARTS:
        pairs = [(a[part], b[part]) for a, b in zip(found, expected, strict=True)]
        off[part] = max(abs(a - b) / max(abs(b), 0.1) for a, b in pairs)
    print("\n", off)
    assert max(off.values()) < TOLERANCE, off


@pytest.mark.parametrize("case", CASES)
def test_the_command_line_trains_as_stored_and_as_plain_pytorch(tmp_path, case):
    torch.set_num_threads(1)
    settings = config(tmp_path, **CASES[case])
    found = [{part: row[part] for part in PARTS} for row in command_line(tmp_path, settings)]
    assert len(found) == STEPS
    assert found[-1]["lm_loss"] < found[0]["lm_loss"]
    assert found[0]["anchor_loss"] == 0
    assert (found[-1]["anchor_loss"] > 0) == ("readout" in case)
    close(found, plain_pytorch(settings))
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("PRESAFE_WRITE_GOLDEN"):
        golden[case] = found
        GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
    close(found, golden[case])
