"""Job `evaluate`: base against aligned over all suites, and the report.

ray job submit --working-dir . --entrypoint-num-cpus 1 -- python -m jobs.evaluate --config configs/demo.yaml
"""

from presafe.cli import stage_job

if __name__ == "__main__":
    stage_job("evaluate")
