"""Real corpora: their folders, tracks, splits and metadata."""
