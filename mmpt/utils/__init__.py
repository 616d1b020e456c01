"""Small modules that several rooms share, one topic a file."""
