"""Observes the values inside a graph while it runs on samples."""
