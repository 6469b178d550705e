"""Excerpts of 10 s in nine genres."""
