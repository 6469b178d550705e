"""Audio files: what they are, reading, decoding ahead, encoding."""
