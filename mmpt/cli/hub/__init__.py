"""`signclip hub`: models on the Hugging Face hub."""
