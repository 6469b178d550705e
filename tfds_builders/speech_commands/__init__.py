"""Speech Commands v2: one spoken word per second of audio."""
