"""How accurate each way to classify is, from raw pixels upwards, on the same labels and images.

A *rung* is one way; a *ladder* is what all of them reach. Knows arrays alone: no files, no bundle.
"""
