"""Builder of the five synthetic music traditions."""
