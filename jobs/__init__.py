"""Jobs: one file a stage, each runs under `ray job submit`, and the pipeline of all of them."""
