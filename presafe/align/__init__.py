"""Stage `align`: DeepSpeed training of the reasoning model and its safety head on Ray Train, and the export."""

from presafe.align.stage import run_align

__all__ = ["run_align"]
