"""Metrics: running sums over samples in numpy, so that no output is kept."""
