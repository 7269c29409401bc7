"""Training: teachers, losses, recovery, and the one loop of all trainings."""
