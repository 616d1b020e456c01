"""Isolated sign recognition: classifiers on embeddings, the named protocols, and their report."""
