"""Figures of runs and of sets of images, their records in scores.json, and runs side by side."""
