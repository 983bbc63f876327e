"""One call in scikit-learn's manner, `SubsetSelector`: no Ray, and no training of ours."""
