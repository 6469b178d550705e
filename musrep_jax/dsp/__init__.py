"""Signal processing in JAX: spectrograms and filter banks."""
