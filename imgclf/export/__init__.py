"""`imgclf export`: write a run in a format that other programs can use."""
