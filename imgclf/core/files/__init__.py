"""Files and folders that may be shared with others: reading, atomic writing, moves with undo, locks."""
