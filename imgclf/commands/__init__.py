"""One function a command, by theme: options in, one call to a verb, one call to the display."""
