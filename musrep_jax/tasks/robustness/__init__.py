"""Robustness: trained taggers on recordings whose sound was changed."""
