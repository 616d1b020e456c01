"""Many trainings: each is run once, its state is recorded, and the results stand in one table."""
