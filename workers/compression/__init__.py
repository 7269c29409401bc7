"""The engine: a function from directory to directory, in a process that sees nothing else."""
