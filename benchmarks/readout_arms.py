"""The arms of benchmarks/readout.py: settings of section `align` over the common ones; None is the base."""

from typing import Any

READOUT = {"kind": "readout"}
POOL: dict[str, Any] = {"head": READOUT, "signal_batch_size": 32, "weight": 0.1}
SIGNALS: dict[str, Any] = {"objective": "signals", **POOL}
FEW: dict[str, Any] = {"max_refuse_examples": 6, "max_think_examples": 6}

ARMS: dict[str, dict[str, Any] | None] = {
    "base": None,
    "sft": {"objective": "sft"},
    "benign": {"objective": "benign"},
    "readout, no refusals": SIGNALS,
    "readout, no refusals, random labels": SIGNALS | {"labels": "random"},
    "readout, no refusals, weight 1": SIGNALS | {"weight": 1.0},
    "sft, 6 + 6": {"objective": "sft", **FEW},
    "readout, 6 + 6": {"objective": "presafe", **POOL, **FEW},
    "readout, 6 + 6, weight 1": {"objective": "presafe", **POOL, **FEW, "weight": 1.0},
    "readout, 6 + 96": {"objective": "presafe", **POOL, "max_refuse_examples": 6},
}
