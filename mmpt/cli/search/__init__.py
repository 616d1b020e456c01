"""Search in embeddings: build an index, query it, describe it."""
