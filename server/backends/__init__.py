"""Tensors: the networks, behind one contract."""
