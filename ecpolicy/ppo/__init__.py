"""Training by PPO and surrogate gradients: all that needs PyTorch."""
