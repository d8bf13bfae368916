"""Job `teacher`: CoT-OFF decisions and own CoT-ON traces, on a Ray Data actor pool.

ray job submit --working-dir . --entrypoint-num-cpus 1 -- python -m jobs.teacher --config configs/demo.yaml
"""

from presafe.cli import stage_job

if __name__ == "__main__":
    stage_job("teacher")
