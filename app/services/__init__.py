"""What can be done, once: the API and the dashboard both call these functions."""
