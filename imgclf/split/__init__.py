"""`imgclf split`: divide a data set into train, validation and test sets that share no image."""
