"""What comes in: archives, formats, datasets; checked before anything computes with it."""
