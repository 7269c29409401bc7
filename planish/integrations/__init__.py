"""Planish beside other tools; each module needs the tool's own package."""
