"""What `make gpu` does on a GPU it does in tiny shapes on a CPU; part `run` is in tests/faults, among the slow ones."""

import json
from pathlib import Path

from benchmarks.gpu import tasks
from benchmarks.gpu_parts import run_part


def names(folder: Path, part: str) -> dict[str, float]:
    found = json.loads((folder / f"gpu_{part}.json").read_text())
    assert [task["state"] for task in found["tasks"]] == ["done"] * len(found["tasks"])
    return {metric["metric"]: metric["value"] for metric in found["metrics"]}


def test_alignment_tells_its_speed_and_its_memory_beside_the_preflights(tmp_path):
    chosen = [task for task in tasks("none", dry_run=True)["train"] if task.name == "7B LoRA"]
    assert run_part("train", chosen, 600, tmp_path, "a CPU")
    found = names(tmp_path, "train")
    assert found.keys() == {
        "7b_lora_tokens_per_second",
        "7b_lora_host_memory_peak",
        "7b_lora_host_memory_peak_over_predicted",
    }
    assert all(value > 0 for value in found.values())


def test_the_engine_tells_its_speed_and_what_the_gate_costs(tmp_path):
    assert run_part("serve", tasks("none", dry_run=True)["serve"], 600, tmp_path, "a CPU")
    found = names(tmp_path, "serve")
    assert found.keys() == {
        f"engine_7b_{what}_at_{crowd}" for what in ("tokens_per_second", "gate_on_over_off") for crowd in (1, 2)
    }
    assert all(value > 0 for value in found.values())
