"""The compiled sampler's sources, and how they are compiled."""
