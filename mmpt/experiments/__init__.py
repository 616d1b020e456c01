"""Many trainings side by side: each made once, its state known, and their results in one table."""
