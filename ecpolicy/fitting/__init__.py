"""Training a policy: one loop for all estimators, what it judges networks by, and how it goes on from a file."""
