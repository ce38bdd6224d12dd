"""Names of the activations that Hugging Face's `ACT2FN` (transformers 5.23, activations.py) has and
Biject computes.
"""

from __future__ import annotations

ACTIVATIONS = frozenset(
    {
        "gelu",
        "gelu_10",
        "gelu_accurate",
        "gelu_fast",
        "gelu_new",
        "gelu_python",
        "gelu_python_tanh",
        "gelu_pytorch_tanh",
        "hardswish",
        "laplace",
        "leaky_relu",
        "linear",
        "mish",
        "quick_gelu",
        "relu",
        "relu2",
        "relu6",
        "sigmoid",
        "silu",
        "sqrtsoftplus",
        "swish",
        "tanh",
    }
)

PARAMETRIC = frozenset({"prelu", "xielu"})
"""Activations with weights of their own: not computed, a clear error."""
