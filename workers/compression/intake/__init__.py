"""Takes uploads in: archives, models and datasets are checked before anything uses them."""
