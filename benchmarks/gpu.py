"""`make gpu [PART=run|train|serve]`: what one GPU shows in 6 + 6 minutes (docs/gpu.md); results/gpu_PART.json.

run: the demo's stages through Ray on the GPU in bfloat16, then the endpoint, gate off and on. train: alignment of 7B
and 14B models. serve: the batching engine on a 7B. Every figure is in the file once it is there, and one task that
fails or reaches its limit does not keep the next one from starting. Exit code 0 where all came to their end, 1 where
one did not, 2 without CUDA. `--dry-run` runs all of it on the CPU in tiny shapes: its numbers say nothing.
"""

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.gpu_parts import Task, run_part
from benchmarks.ratio import RESULTS

SECONDS = {"run": 330, "train": 270, "serve": 90}
"""Limits of the parts."""
SLACK = 10
"""How many times the limits a dry run may take: its CPU may be slow, and busy."""
GPU = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=SECONDS, help="by default all")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument("--seconds", type=float, help="another limit, of each part")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="where the files are written")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    machine = f"{platform.machine()}, dry run on a CPU: these numbers say nothing"
    if not arguments.dry_run:
        gpu = gpu_name()
        if not gpu:
            print(
                "benchmarks.gpu: found no GPU that torch sees; needed one with CUDA; run it on such a machine, or try "
                "it out with --dry-run",
                file=sys.stderr,
            )
            raise SystemExit(2)
        machine = f"{platform.machine()}, {gpu}"
    arguments.results.mkdir(parents=True, exist_ok=True)
    done = True
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        # torch waits for ever where a process was killed that compiled into the same folder.
        os.environ["TORCH_EXTENSIONS_DIR"] = f"{folder}/extensions"
        parts = tasks(f"{folder}/runs" if arguments.dry_run else "runs", dry_run=arguments.dry_run)
        for part in [arguments.part] if arguments.part else SECONDS:
            seconds = arguments.seconds or SECONDS[part] * (SLACK if arguments.dry_run else 1)
            done &= run_part(part, parts[part], seconds, arguments.results, machine)
    raise SystemExit(0 if done else 1)


def tasks(storage: str, *, dry_run: bool) -> dict[str, list[Task]]:
    """Of every part, the most important ones first; `storage` is that of the run of part `run`."""

    def task(seconds: float, name: str, module: str, *arguments: str) -> Task:
        command = [sys.executable, "-m", f"benchmarks.{module}", *arguments, *(["--dry-run"] if dry_run else [])]
        return Task(name, command, seconds * (SLACK if dry_run else 1))

    return {
        "run": [
            task(230, "stages", "gpu_run", "stages", storage),
            task(80, "endpoint, gate off", "gpu_run", "endpoint", storage, "--gate", "off"),
            task(80, "endpoint, gate on", "gpu_run", "endpoint", storage, "--gate", "on"),
        ],
        "train": [
            task(60, "7B LoRA", "align_gpu", "7b-lora"),
            task(75, "14B LoRA", "align_gpu", "14b-lora-checkpointed"),
            task(75, "7B LoRA, TRL", "align_gpu", "7b-lora-trl"),
            task(180, "7B in full, offload", "align_gpu", "7b-full-offload"),
            task(180, "half of a 7B in full, offload", "align_gpu", "4b-full-offload"),
        ],
        "serve": [task(90, "7B", "serve_gpu")],
    }


def gpu_name() -> str:
    """Of the first GPU; empty without one. A process of its own asks, which leaves nothing on the GPU."""
    asked = subprocess.run([sys.executable, "-c", GPU], stdout=subprocess.PIPE, text=True, check=True)
    return asked.stdout.strip()


if __name__ == "__main__":
    main()
