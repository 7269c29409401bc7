"""Converters that pin other packages than the engine: each in a Python environment of its own.

A tool is found by the worker, run in the confinement of the engine on the same directory, and reads
and writes files alone (``app/domain/directory.py``). What is imported here runs in both Pythons.
"""
