"""Write, and run, each output format."""
