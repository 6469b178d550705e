"""Builder of the Carnatic corpus of CompMusic, from Dunya."""
