"""Tagging, from scratch and transferred: the first task."""
