"""Gymnasium's MuJoCo tasks on MuJoCo's own batch engine: recognised, simulated and played in threads."""
