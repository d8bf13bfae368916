"""Checkpoints for another number of ranks: DeepSpeed's universal form, files for each parameter and its moments."""

import contextlib
import copy
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from deepspeed.checkpoint import ds_to_universal

TAG = "universal"
SAVE_INFO: dict[str, Any] = {"universal_checkpoint_info": {}}
"""Client state without which a checkpoint cannot be converted."""
LOAD_SETTINGS = {"checkpoint": {"load_universal": True}}
"""What DeepSpeed's configuration needs to load a converted one."""


def sharded(folder: str) -> bool:
    """Whether the checkpoint is cut by ranks; without ZeRO every rank reads the same file, however many they are."""
    return any(Path(folder).glob("*_optim_states.pt"))


def convert(source: str, target: str) -> None:
    """Write checkpoint `source` in the universal form as the tag `universal` of folder `target`."""
    # In this process alone: the converter's pools would import everything again, for a work of seconds.
    workers = {"num_extract_workers": 1, "num_merge_workers": 1, "keep_temp_folder": False}
    checks = {"strict": True, "inject_missing_state": False}
    output = f"{target}/{TAG}"
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        ds_to_universal.main(Namespace(input_folder=source, output_folder=output, **workers, **checks))


def load(engine: Any, folder: str) -> None:
    """Bring `engine`, started with LOAD_SETTINGS, to the converted checkpoint in `folder`. Every rank calls it."""
    engine.load_checkpoint(folder, tag=TAG, load_module_strict=False)
    # What ZeRO-3's loading leaves wrong: all parameter groups have the first one's learning rate, and the states of all
    # share one step counter, which each of them would advance.
    for group, learning_rate in zip(engine.optimizer.param_groups, engine.lr_scheduler.get_last_lr(), strict=True):
        group["lr"] = learning_rate
    for state in engine.basic_optimizer.state.values():
        state["step"] = copy.deepcopy(state["step"])
