"""The no-configuration default: a private PostgreSQL, a private Redis, local files."""
