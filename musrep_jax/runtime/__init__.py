"""What keeps a program running: files, locks, signals, processes; the ground floor."""
