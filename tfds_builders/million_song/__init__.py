"""Builder of the Million Song Dataset with Last.fm tags, for those who have its audio."""
