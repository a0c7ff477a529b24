"""Facts of the trade: configuration, errors, the journal. Standard library only."""
