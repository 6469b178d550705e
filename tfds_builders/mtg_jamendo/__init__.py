"""Builder of the MTG-Jamendo data set: full tracks under Creative Commons licenses, 183 tags."""
