"""Training: one loop for any module and device. The contract of a step is in `loop.py`."""
