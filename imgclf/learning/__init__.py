"""What is learnt and how good it is."""
