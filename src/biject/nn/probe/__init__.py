"""What this machine's CPU kernels do to the bits of a row: measured on demand, kept on disk.

Bits depend on shapes, threads and instruction sets. A shortcut that computes fewer or other rows than HF is
exact only where the kernels it relies on give a row the same bits in both shapes; here that is measured, not
assumed. docs/packing.md has the tables that the shape of these questions comes from.
"""

from biject.nn.probe.addresses import addresses_matter
from biject.nn.probe.attention import attention_holds
from biject.nn.probe.columns import columns_hold
from biject.nn.probe.elementwise import rowwise_holds
from biject.nn.probe.linear import same_bits_from
from biject.nn.probe.store import measured

__all__ = [
    "addresses_matter",
    "attention_holds",
    "columns_hold",
    "measured",
    "rowwise_holds",
    "same_bits_from",
]
