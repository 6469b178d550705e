"""One folder per data set, in the convention of TFDS."""
