"""Noisy student: a network that learns from labels, and from what its teacher says of others."""
