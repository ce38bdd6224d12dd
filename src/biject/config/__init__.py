"""What a model is, without torch: `ModelConfig`, and the tables that read and write `config.json`."""
