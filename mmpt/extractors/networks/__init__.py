"""The frozen 3-D networks alone: tensors in, tensors out, and the reading of their authors' weights."""
