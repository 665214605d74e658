"""The hot loops: a plain NumPy reference and its compiled twin."""
