"""The statistics of "what share of my data is enough?": pure numpy and scipy.stats.

Accuracies, losses and drops are shares in [0, 1]; sentences print points, 100 x share.
"""
