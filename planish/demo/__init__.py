"""What `planish demo` shows: a trained text reader, lines of text, and a receiver of webhooks."""
