"""The estimators: scikit-learn's face on the algorithm."""
