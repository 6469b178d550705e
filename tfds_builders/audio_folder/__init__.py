"""Anyone's recordings: a folder of audio files plus a table of labels."""
