"""Excerpts of 30 s in 14 genres."""
