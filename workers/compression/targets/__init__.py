"""Runtimes, and how a file that was opened on one is run."""
