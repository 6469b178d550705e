"""Recordings changed as a whole before they are cut into chunks: pitch, tempo, dynamics, noise."""
