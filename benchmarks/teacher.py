"""`make bench-teacher [ONLY=overhead,scaling]`: the teacher's engine and the job around it; a result file a part."""

import sys
from collections.abc import Callable

from benchmarks import teacher_engine, teacher_pipeline
from benchmarks.ratio import Metric, save

PARTS: dict[str, Callable[[], list[Metric]]] = {
    "engine": teacher_engine.plain_generate,
    "paged": teacher_engine.paged,
    "decisions": teacher_engine.decision_only,
    "overhead": teacher_pipeline.overhead,
    "scaling": teacher_pipeline.scaling,
    "memory": teacher_pipeline.driver_memory,
    "resume": teacher_pipeline.resume,
}


def main() -> None:
    for part in sys.argv[1].split(",") if len(sys.argv) > 1 else PARTS:
        save(f"teacher_{part}", PARTS[part]())


if __name__ == "__main__":
    main()
