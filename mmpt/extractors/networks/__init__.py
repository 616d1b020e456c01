"""Frozen 3D CNNs (S3D, I3D) and loading of their published weights."""
