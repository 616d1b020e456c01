"""Figures of an evaluation. Import each from its module: matplotlib is slow to import."""
