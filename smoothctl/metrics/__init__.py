"""Figures about runs and samples: likelihood bounds, two-sample statistics, the σ heuristic."""
