"""Noise conditional score networks (NCSN) for smoothctl."""
