"""Periodic work of a worker: scans the table for waiting work, and cleans up."""
