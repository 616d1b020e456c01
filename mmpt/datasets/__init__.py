"""Examples -> samples -> batches."""
