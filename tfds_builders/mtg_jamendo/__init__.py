"""Builder of the MTG-Jamendo data set: full tracks under Creative Commons licences, 183 tags."""
