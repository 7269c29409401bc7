"""Runs jobs and inspections, from the claim of a row under a lease to its result."""
