"""What can be fine-tuned how, and what it takes: allowed cells, and the memory of a run. No torch."""
