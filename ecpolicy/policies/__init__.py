"""The estimators: scikit-learn's face on the algorithm, and Stable-Baselines3's predict."""
