"""Every number that a report states."""
