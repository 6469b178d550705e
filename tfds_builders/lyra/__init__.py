"""Lyra: 1,570 pieces of Greek traditional and folk music, as log-mel spectrograms."""
