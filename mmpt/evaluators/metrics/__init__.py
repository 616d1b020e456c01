"""Similarities, ranks, retrieval and classification metrics, and their confidence intervals."""
