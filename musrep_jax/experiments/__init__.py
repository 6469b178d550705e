"""The jobs of an experiment, the folder they are written to, and how they are run."""
