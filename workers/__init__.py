"""Celery workers, and the engine that they start."""
