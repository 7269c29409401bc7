"""Runs a process that can access one directory and nothing else."""
