"""Builder of the Turkish makam corpus of CompMusic, from Dunya."""
