"""`imgclf audit`: find likely label errors, outliers and near-duplicates from the features of a backbone."""
