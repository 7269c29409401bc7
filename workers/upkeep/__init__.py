"""What a worker does by itself: look at the table, and put right what time did."""
