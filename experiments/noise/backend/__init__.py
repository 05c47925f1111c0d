"""One replica trained in separate processes, under different compiler and thread settings."""
