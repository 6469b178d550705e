"""FMA-medium: 25,000 clips of 30 s with their genres."""
