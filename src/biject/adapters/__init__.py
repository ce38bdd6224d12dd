"""Adapters: low-rank parameters beside a model's own, made, stored as PEFT stores them, and merged."""
