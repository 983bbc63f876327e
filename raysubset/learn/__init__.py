"""Learning in one process with PyTorch: models, data on the device, and the training recipe."""
