"""Poses as arrays: reading, normalising, augmenting, computing features, and the cache of prepared clips."""
