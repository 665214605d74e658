"""Compiled kernels of the host; each has a plain twin in :mod:`ecpolicy.networks.reference`."""
