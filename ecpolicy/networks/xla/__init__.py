"""The same networks in XLA, on whatever device JAX has."""
