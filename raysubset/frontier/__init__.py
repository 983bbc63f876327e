"""The frontier: accuracy against fraction, over seeds and beside controls, and what follows."""
