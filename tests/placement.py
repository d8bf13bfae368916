"""What a stage's check of the cluster says of several demands, in a process that joins it.

    python -m placement ADDRESS PYTHON

Prints a JSON object: of each demand what the user is told, or null where the check passes. PYTHON is an interpreter of
another environment with the same packages.
"""

import json
import sys
import tempfile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from presafe.cluster.check import check_cluster
from presafe.cluster.demand import demand, pool_size
from presafe.cluster.doctor.examine import examine
from presafe.cluster.options import actor_options
from presafe.config import Cluster, Pool, Workers
from presafe.errors import UserError
from presafe.rowjob import RowJob, run_rows
from presafe.runtime import connect


def told(packages: list[str], minutes: float = 10, **workers: Any) -> str | None:
    """What the check says of workers of stage `teacher`."""
    asked = demand("teacher", Workers(**workers))
    try:
        check_cluster(asked, Cluster(placement_minutes=minutes), packages)
    except UserError as error:
        return str(error)
    return None


def main(address: str, python: str) -> None:
    connect(Cluster(address=address, variables={"GREETING": "hello", "HOME": None}))
    other = {"python": python}
    answers = {
        "fits": told(["torch"], pool="a", num_workers=2),
        "many": told([], pool="a", num_workers=3),
        "elsewhere": told([], pool="c"),
        "no such GPU": told([], pool="b", num_gpus=1, accelerator_type="H100"),
        "memory": told([], pool="a", memory_gb=10**4),
        "lacks": told(["torch", "no_such_package"], pool="a"),
        "other python": told(["torch"], pool="b", environment=other),
        "not there": told([], pool="b", environment={"python": "/nowhere/bin/python"}),
        "without ray": told([], pool="b", environment={"python": "/usr/bin/env"}),
        "auto": pool_size(Pool(num_workers="auto", pool="a")),
    }
    pool_b = actor_options(Workers(pool="b", environment=other))
    answers["ran"] = ray.get(ray.remote(ran).options(**pool_b).remote())
    answers["blocks"] = blocks()
    answers["doctor"] = [str(finding) for finding in examine(Cluster(address=address), "/proc/nowhere")]
    holder = ray.remote(Holder).options(num_cpus=2, label_selector={"presafe-pool": "a"}).remote()
    ray.get(holder.holds.remote())
    answers["busy"] = told([], pool="a", num_workers=2, minutes=0.1)
    print(json.dumps(answers))


def ran() -> list[str]:
    """The labels and the Python of the worker, and its variables."""
    import os

    import presafe

    pool = ray.get_runtime_context().get_node_labels()["presafe-pool"]
    return [pool, sys.executable, os.environ["GREETING"], os.environ["HOME"], presafe.__file__]


def blocks() -> list[int]:
    """Rows of each batch of a job of 70 rows, in blocks of 32, on a worker with a GPU."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = f"{folder}/rows.parquet"
        pq.write_table(pa.table({"row": [f"{k:03}" for k in range(70)]}), inputs)
        pool = Pool(num_workers="auto", num_gpus=1, pool="b")
        job = RowJob("row", ["row"], f"{folder}/checkpoint", pool, 32, "blocks")
        return sorted(pq.read_table(run_rows(inputs, f"{folder}/output", job, Sizes))["num_tokens"].to_pylist())


class Sizes:
    """Says of each row how many came with it."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        return batch.select(["row"]).append_column("num_tokens", pa.array([batch.num_rows] * batch.num_rows))


class Holder:
    """Takes what it asks for as long as it lives."""

    def holds(self) -> bool:
        return True


if __name__ == "__main__":
    main(*sys.argv[1:])
