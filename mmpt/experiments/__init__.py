"""Many trainings: each runs once, its state is recorded, and all results are in one table."""
