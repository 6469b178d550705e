"""Results for people: tables, captions and figures."""
