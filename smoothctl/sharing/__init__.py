"""Runs to be given to others: packed, with a card, as a folder, a file or on the hub."""
