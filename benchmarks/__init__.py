"""Benchmarks: ratios against a peer, measured in one run on the same work."""
