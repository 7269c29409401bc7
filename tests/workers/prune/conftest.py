"""The trained models and the job directory of the engine's tests."""

from tests.workers.engine.conftest import digits, digits_npz, exported, job

__all__ = ["digits", "digits_npz", "exported", "job"]
