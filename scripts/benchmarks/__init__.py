"""The benchmarks of scripts/benchmark.py, one per file."""
