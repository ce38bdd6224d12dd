"""Pictures: files, safely opened, and what a model's preprocessor_config.json makes of them."""
