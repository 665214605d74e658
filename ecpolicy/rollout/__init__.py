"""Playing episodes: what turns networks into returns."""
