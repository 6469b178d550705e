"""MagnaTagATune: 25,863 clips of 29 s with the tags of a game."""
