"""What several commands share: options and their defaults, the console, exit codes."""
