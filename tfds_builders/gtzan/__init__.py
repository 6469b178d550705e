"""GTZAN: 1,000 half-minute excerpts in ten genres."""
