"""Builder of the Hindustani corpus of CompMusic, from Dunya."""
