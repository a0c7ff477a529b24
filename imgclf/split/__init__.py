"""`imgclf split`: divide a data set into train, validation and test sets without duplicates or groups in common."""
