"""`python -m benchmarks.align_peak ours|trl imports|SETTING`: the peak memory of a process that trains two steps."""

import json
import resource
import sys
import tempfile

from benchmarks.align_data import BATCH, examples, save_model


def main(who: str, setting: str) -> None:
    data = examples(2 * BATCH)
    with tempfile.TemporaryDirectory() as folder:
        base = save_model(folder)
        if who == "ours":
            from benchmarks.align_ours import Ours, process_group, settings

            if setting != "imports":
                with process_group():
                    Ours.load(base, data, settings()).train(2)
        else:
            from benchmarks.align_trl import SETTINGS, Trl

            if setting != "imports":
                Trl(base, data, **SETTINGS[setting]).train()
    print(json.dumps({"peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9}))


if __name__ == "__main__":
    main(*sys.argv[1:])
