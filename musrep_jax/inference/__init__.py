"""A trained model in use: reading exports, chunks, tags, folders of recordings."""
