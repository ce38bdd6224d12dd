"""Generation: a causal model continues texts, with Hugging Face's arguments and its tokens."""
