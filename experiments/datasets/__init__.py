"""Data that experiments read: from files a user names, or from packages."""
