"""Delivers webhooks: signed, at least once, to permitted addresses."""
