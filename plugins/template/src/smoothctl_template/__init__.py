"""An architecture, a kernel and a dataset for smoothctl, found through its entry points.

Nothing is imported here: smoothctl imports the one module that an entry point names.
"""
