"""A finished run directory up to stage `align`, for tests of that stage alone: real files, a random tiny model."""

from pathlib import Path

import numpy as np
from finished_stage import finish

from presafe import storage
from presafe.config import Config
from presafe.records import Prompt, Signal, TeacherAnswer, Trace
from support import random_qwen2
from tiny_tokenizer import QWEN3, save_tokenizer

COUNT = 60


def config(root: Path, name: str = "run", **align: object) -> Config:
    """A config whose run directory is `root`/`name`; `align` overrides settings of the stage."""
    return Config.model_validate(
        {
            "run": {"name": name, "storage": str(root)},
            "model": {"path": str(root / "base"), "dtype": "float32"},
            "suites": [{"name": "e", "function": "m:f"}],
            "prompts": {"sources": [{"name": "s", "function": "m:f"}]},
            "align": {
                "workers": {"num_workers": 2},
                "zero_stage": 2,
                "lora": {"r": 4, "alpha": 8, "dropout": 0.1},
                "learning_rate": 0.01,
                "steps": 40,
                "batch_size": 8,
                "micro_batch_tokens": 128,
                "gradient_checkpointing": False,
                "checkpoint_every": 10,
                **align,
            },
        }
    )


def save_model(root: Path) -> None:
    """A random model with a tokenizer and a Qwen3-style template in `root`/base."""
    folder = str(root / "base")
    tokenizer = save_tokenizer(folder, QWEN3)
    stops = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    random_qwen2(len(tokenizer), **stops).save_pretrained(folder)


Outputs = dict[str, dict[str, tuple[list, type]]]


def finish_earlier_stages(settings: Config) -> None:
    """Write what the stages before `align` would have written, under their own manifests."""
    for stage, files in earlier_outputs().items():

        def write(folder: str, files: dict = files) -> dict[str, int]:
            for name, (rows, record) in files.items():
                storage.write_rows(f"{folder}/{name}.parquet", rows, record)
            return {}

        finish(settings.run_directory, stage, write)


def earlier_outputs() -> Outputs:
    """Rows by stage and file: half of the prompts are harmful, and the teacher refused those."""
    draw = np.random.default_rng(0)
    words = ["add", "two", "and", "three", "please", "kite", "lamp"]
    text = lambda n: " ".join(draw.choice(words, n))  # noqa: E731
    prompts, answers, traces, signals = [], [], [], []
    for k in range(COUNT):
        kind = "harmful" if k % 2 else "benign"
        split = "validation" if k % 6 < 2 else "align"
        prompts.append(Prompt(f"p{k}", text(6), kind, "s", None, None, split, f"p{k}", None))
        decision = "refuse" if k % 2 else "comply"
        answers.append(TeacherAnswer(f"p{k}", 0, f"i cannot {text(2)}", "stop", 5, decision, "test"))
        signals.append(Signal(f"p{k}", float(k % 2) * 0.8 + 0.1, decision, None, False))
        if kind == "benign":
            traces.append(Trace(f"p{k}", text(25), text(4), "stop", 40))
    return {
        "prompts": {"prompts": (prompts, Prompt)},
        "teacher": {"answers": (answers, TeacherAnswer), "traces": (traces, Trace)},
        "signals": {"signals": (signals, Signal)},
    }
