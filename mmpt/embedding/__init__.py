"""Embed clips and prompts with a trained model, in memory or into a folder."""
