"""Pictures and tables out."""
