"""Embed clips and prompts with a trained model: in memory, or thousands into a folder."""
