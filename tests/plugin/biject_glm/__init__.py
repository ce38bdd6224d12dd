"""GLM for Biject, as a package outside of it would bring it: a family and an attention of its own."""
