"""What is trained, and how: teachers, losses, recovery, and the one loop of all trainings."""
