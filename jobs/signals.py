"""Job `signals`: train the BERT classifier on Ray Train, score every prompt on Ray Data.

ray job submit --working-dir . --entrypoint-num-cpus 1 -- python -m jobs.signals --config configs/demo.yaml
"""

from presafe.cli import stage_job

if __name__ == "__main__":
    stage_job("signals")
