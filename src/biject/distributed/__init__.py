"""Devices of unequal speed: who does how much, when they meet, and what is averaged; torch does the rest."""
