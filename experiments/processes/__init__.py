"""Processes and compilers: settings by name, children, programs kept on disk."""
