"""What goes wrong with files of weights."""


class WeightFileError(ValueError):
    """A file of weights or labels cannot be read; the message says why and what to do."""
