"""Pose files: what they hold, and how two extractions differ."""
