"""Accuracy against the number of labels, from subsets of a user's own; what more of them may bring.

Knows arrays alone: no images, no files.
"""
