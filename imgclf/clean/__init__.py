"""`imgclf clean`: find issues in a data folder and act on them; every move can be undone."""
