"""The arms of benchmarks/readout.py: settings of section `align` over the common ones; None is the base."""

from typing import Any

READOUT = {"kind": "readout"}
SIGNALS: dict[str, Any] = {"objective": "signals", "head": READOUT, "signal_batch_size": 32}
FEW: dict[str, Any] = {"max_refuse_examples": 6, "max_think_examples": 6}

ARMS: dict[str, dict[str, Any] | None] = {
    "base": None,
    "sft": {"objective": "sft"},
    "benign": {"objective": "benign"},
    "readout, no refusals": SIGNALS,
    "readout, no refusals, random labels": SIGNALS | {"labels": "random"},
    "sft, 6 + 6": {"objective": "sft", **FEW},
    "readout, 6 + 6": {"objective": "presafe", "head": READOUT, "signal_batch_size": 32, **FEW},
}

ARMS |= {
    "A steps120": SIGNALS | {"steps": 120},
    "B weight.3": SIGNALS | {"weight": 0.3},
    "C decay": SIGNALS | {"weight_schedule": {"shape": "linear"}},
    "D lr1e-3": SIGNALS | {"learning_rate": 0.001},
    "F w.3 steps120": SIGNALS | {"weight": 0.3, "steps": 120},
    "G w.1": SIGNALS | {"weight": 0.1},
}
