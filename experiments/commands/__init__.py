"""The commands of `seedmap`, a file each: they parse flags and call what does the work."""
