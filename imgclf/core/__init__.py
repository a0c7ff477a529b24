"""Configuration, errors, files, processes: the standard library only."""
