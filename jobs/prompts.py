"""Job `prompts`: load, normalise, dedupe and split the prompts.

ray job submit --working-dir . --entrypoint-num-cpus 1 -- python -m jobs.prompts --config configs/demo.yaml
"""

from presafe.cli import stage_job

if __name__ == "__main__":
    stage_job("prompts")
