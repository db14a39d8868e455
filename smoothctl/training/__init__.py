"""Fitting stages: objectives, schedule, checkpoints and the Accelerate loop."""
