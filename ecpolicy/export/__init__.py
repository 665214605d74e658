"""Trained networks in the forms that others run: NIR graphs and C99 headers."""
