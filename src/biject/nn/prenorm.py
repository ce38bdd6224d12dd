"""A layer that normalises what goes in, not what comes out."""

from __future__ import annotations

from torch import Tensor, nn

from biject.config.causal import CausalConfig
from biject.config.model import ModelConfig
from biject.nn.causal import CausalAttention
from biject.nn.layout import Layout
from biject.nn.mlp import MLP
from biject.nn.modules import make_norm


class PreNormLayer(nn.Module):
    """Norm, causal attention, dropout and residual; then the same with the MLP.

    Shape: (T, D) → (T, D).
    Source: transformers 5.23, modeling_llama.py (LlamaDecoderLayer), modeling_gpt2.py (GPT2Block).
    """

    def __init__(self, config: ModelConfig, causal: CausalConfig, layer: int) -> None:
        super().__init__()
        self.attn_norm = make_norm(config.norm, config.hidden_size, eps=config.norm_eps)
        self.attn = CausalAttention(config, causal, layer)
        self.mlp_norm = make_norm(config.norm, config.hidden_size, eps=config.norm_eps)
        self.mlp = MLP(config)
        self.attn_dropout = nn.Dropout(config.attention_out_dropout)
        self.mlp_dropout = nn.Dropout(config.mlp_out_dropout)

    def forward(self, x_TD: Tensor, layout: Layout, **attention: object) -> Tensor:
        """`attention` goes to the attention module as it is."""
        attended_TD = self.attn_dropout(self.attn(self.attn_norm(x_TD), layout, **attention))
        x_TD = layout.queries(x_TD) + attended_TD
        out_TD: Tensor = x_TD + self.mlp_dropout(self.mlp(self.mlp_norm(x_TD)))
        return out_TD
