"""Fetches models and datasets that are named by an address: bounded, hashed, stored."""
