"""Programs for those who work on Planish."""
