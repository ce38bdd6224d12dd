"""Fine-tuning runs: from a recipe to a folder with a verified model in it."""
