"""The version watch: which release of transformers changed names, bytes or bits, family by family.

Each release lives in an environment of its own (`environments`), is asked by a process of its own (`oracle`,
which knows nothing of Biject), and both sides exchange files: checkpoints, inputs, outputs, gradients.
"""
