"""The search for steps."""
