"""Deliver webhooks: signed, at least once, to addresses that may be called."""
