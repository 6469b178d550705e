"""Published weights of other projects: read, checked, and turned into variables of our models."""
