"""What data is: samples, how they are split, which axis is theirs, what their values mean."""
