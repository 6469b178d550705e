"""Examining audio files: measurements, findings, quarantine."""
