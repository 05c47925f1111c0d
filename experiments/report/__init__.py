"""HTML page, captions, tables, and progress bars in the terminal."""
