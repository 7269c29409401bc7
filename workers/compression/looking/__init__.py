"""What is seen inside a graph while it runs on samples."""
