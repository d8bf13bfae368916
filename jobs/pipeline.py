"""Job `pipeline`: every stage as a Ray job of its own, one after the other; what `presafe submit pipeline` submits.

    python -m jobs.pipeline --address http://HOST:8265 --config configs/r1-qwen-7b.yaml run.storage=s3://bucket/runs

Inside a submitted job it submits them to the job's own cluster; with --address (or RAY_API_SERVER_ADDRESS) it does so
from here, and ends with this process. Otherwise the stages run in this process, like `presafe run`.
"""

import argparse
import os
import sys

from presafe.cli import main as presafe
from presafe.cli import told_in_a_line
from presafe.config import load_config
from presafe.submission.client import jobs_client
from presafe.submission.jobs import package_of_this_job
from presafe.submission.stages import run_stages
from presafe.submission.upload import check_upload


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default=os.environ.get("RAY_API_SERVER_ADDRESS"), help="URL of Ray's dashboard")
    parsed, arguments = parser.parse_known_args()
    package = package_of_this_job()
    if parsed.address is None and package is None:
        presafe(["run", *arguments])
    else:
        with told_in_a_line():
            sys.exit(_submit_all(parsed.address, arguments, package))


def _submit_all(address: str | None, arguments: list[str], package: str | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.pipeline")
    parser.add_argument("--config", required=True)
    parser.add_argument("--redo", action="store_true")
    parser.add_argument("--force", action="store_true")
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_intermixed_args(arguments)
    flags = [f"--{flag}" for flag in ("redo", "force") if getattr(given, flag)]
    client = jobs_client(address)
    path = given.config if package else check_upload(given.config)
    each = ["--config", path, *given.overrides, *flags]
    return run_stages(client, load_config(path, given.overrides), each, package or os.curdir, package)


if __name__ == "__main__":
    main()
