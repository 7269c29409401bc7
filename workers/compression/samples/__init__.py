"""Samples: how they are split, along which axis they lie, what their values mean."""
