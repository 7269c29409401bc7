"""The words of the house: pydantic and the standard library, nothing else."""
