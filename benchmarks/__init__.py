"""Ratios in one run, side by side; each module prints a table and writes JSON."""
