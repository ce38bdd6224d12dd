"""The modules: one transformer, its layers and heads, computed in the order of operations of
Hugging Face's models.

Tensors are named with their shape: T rows of tokens, B batch, L length, D hidden, H heads, E width
of a head, F width of the MLP, V vocabulary, N labels, P rows of a table of relative positions.
"""
