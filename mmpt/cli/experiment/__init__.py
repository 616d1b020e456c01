"""Many trainings: ablations, held-out languages, tables of results."""
