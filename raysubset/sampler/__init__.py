"""A chosen subset in a person's own training loop: a plain PyTorch sampler, without Ray."""

from raysubset.sampler.sampler import SubsetSampler

__all__ = ["SubsetSampler"]
