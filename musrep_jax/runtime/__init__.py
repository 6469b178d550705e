"""Infrastructure of a running program: files, locks, signals, processes."""
