"""Text to rows of ids: tokenizers built from a folder's files, without transformers."""
