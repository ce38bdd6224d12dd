"""Text to ids: tokenizers built from a folder's files, without transformers; chat templates."""
