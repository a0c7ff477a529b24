"""Shared by several commands: options and their defaults, the console, exit codes."""
