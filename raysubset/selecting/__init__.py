"""One-shot selection, no training: by a checkpoint of a model, or by embeddings and a head."""
