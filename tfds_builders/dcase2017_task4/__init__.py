"""DCASE 2017 task 4: sounds of traffic in excerpts of videos."""
