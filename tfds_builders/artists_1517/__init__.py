"""Songs of 1517 artists."""
