"""Job `align`: DeepSpeed alignment on Ray Train and the exported model.

ray job submit --working-dir . --entrypoint-num-cpus 1 -- python -m jobs.align --config configs/demo.yaml
"""

from presafe.cli import stage_job

if __name__ == "__main__":
    stage_job("align")
