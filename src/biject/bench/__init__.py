"""`biject bench`: ours and Hugging Face in one process, in turns."""
