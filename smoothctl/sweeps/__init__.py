"""Sweeps: many runs over some settings, shared by any number of workers through their folder."""
