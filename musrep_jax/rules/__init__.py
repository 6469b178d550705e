"""What values may be, as tests and in words: for configs, model cards and stores."""
