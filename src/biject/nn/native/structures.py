"""The structures of step.c and rows.c, field by field."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_float, c_int32, c_int64, c_void_p


class Matrix(ctypes.Structure):
    """A matrix in one of four forms."""

    _fields_ = [
        ("weight", c_void_p),
        ("scale", c_void_p),
        ("bias", c_void_p),
        *((name, c_int32) for name in ("kind", "rows", "cols")),
    ]


class Norm(ctypes.Structure):
    """A norm over a row or a head."""

    _fields_ = [("weight", c_void_p), ("bias", c_void_p), ("eps", c_float), ("kind", c_int32)]


class LayerParts(ctypes.Structure):
    """What a layer computes with, its keys and values too."""

    _fields_ = [
        *((name, Norm) for name in ("attn_norm", "mlp_norm", "q_norm", "k_norm")),
        *((name, Matrix) for name in ("q", "k", "v", "o", "gate", "up", "down")),
        *((name, c_void_p) for name in ("keys", "values")),
        *((name, c_int32) for name in ("heads", "groups", "width", "window", "act", "rope")),
        ("scale", c_float),
    ]


class Step(ctypes.Structure):
    """One step of one batch."""

    _fields_ = [
        ("layers", POINTER(LayerParts)),
        ("final_norm", Norm),
        ("head", Matrix),
        *((name, c_void_p) for name in ("cos", "sin", "first", "x", "q", "k", "v", "inner", "logits")),
        *((name, c_int32) for name in ("num_layers", "batch", "hidden", "widest", "room", "past", "threads")),
        *((name, c_int32) for name in ("narrow_cache", "arrived", "phase", "failed")),
    ]


MIRRORED = (Matrix, Norm, LayerParts, Step)
"""In the order of `biject_sizes`."""


class Attend(ctypes.Structure):
    """Attention over packed rows."""

    _fields_ = [
        *((name, c_void_p) for name in ("q", "k", "v", "out", "ends")),
        *((name, c_int64) for name in ("q_stride", "k_stride", "v_stride", "out_stride")),
        *((name, c_int32) for name in ("texts", "heads", "groups", "width", "before", "after")),
        *((name, c_int32) for name in ("half", "longest", "threads")),
        ("scale", c_float),
    ]


class Rows(ctypes.Structure):
    """A product of rows with a matrix of 8-bit codes."""

    _fields_ = [
        *((name, c_void_p) for name in ("x", "y", "codes", "scale", "bias", "total")),
        ("rows", c_int64),
        *((name, c_int32) for name in ("inputs", "outputs", "gelu", "threads")),
    ]


class Numbers(ctypes.Structure):
    """Rows of numbers that an activation takes one by one."""

    _fields_ = [
        *((name, c_void_p) for name in ("x", "times", "y")),
        *((name, c_int64) for name in ("rows", "width", "x_stride", "times_stride")),
        *((name, c_int32) for name in ("kind", "half", "threads")),
    ]


ROWS_MIRRORED = (Attend, Rows, Numbers)
"""In the order of `biject_rows_sizes`."""
