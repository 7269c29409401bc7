"""One process that sees one directory and nothing else."""
