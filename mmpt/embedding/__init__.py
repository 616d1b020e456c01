"""Clips and prompts -> vectors, by a trained model: in memory, or thousands into a folder."""
