"""Files and folders that other users may share: reading, atomic writing, moves with undo, locks."""
