"""A job in one worker, from claim to result."""
