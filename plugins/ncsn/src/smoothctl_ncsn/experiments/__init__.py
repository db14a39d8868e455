"""What the papers on NCSN claim, and what smoothing makes of it: one module each."""
