"""`make bench-teacher [ONLY=engine,decisions,overhead,scaling,memory]`: the teacher's engine and the job around it."""

import sys

from benchmarks import teacher_engine, teacher_pipeline
from benchmarks.ratio import Metric, save
from presafe.organism import build

CACHE = "runs/models"
PARTS = ("engine", "decisions", "overhead", "scaling", "memory")


def main() -> None:
    wanted = sys.argv[1].split(",") if len(sys.argv) > 1 else PARTS
    metrics: list[Metric] = []
    if "decisions" in wanted:
        metrics += teacher_engine.decision_only(CACHE)
    if "engine" in wanted:
        metrics.append(teacher_engine.plain_generate())
    if {"overhead", "scaling", "memory"} & set(wanted):
        teacher_pipeline.start_cluster()
        if "overhead" in wanted:
            metrics.append(teacher_pipeline.overhead(build(CACHE, 0)))
        if "scaling" in wanted:
            metrics += teacher_pipeline.scaling()
        if "memory" in wanted:
            metrics.append(teacher_pipeline.driver_memory())
        teacher_pipeline.end_cluster()
    save("teacher", metrics)


if __name__ == "__main__":
    main()
