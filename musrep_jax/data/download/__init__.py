"""Downloads: the web, partial files, archives."""
