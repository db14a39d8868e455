"""The rivals of ARDS (Meng et al. 2021), table 2, as architectures."""
