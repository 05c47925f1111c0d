"""What people read: the HTML page, its captions, tables and bars in the terminal."""
