"""Strategies: plans that choose K ids of a pool. One file each, with its source."""
