"""What stands beside the figures and pictures of a clustering, for readers new to them."""

LEAD = """
Images that the model takes to be alike, grouped without using a label. A cluster that shows one
thing can be labelled at once; one that mixes things shows what the model cannot tell apart; a small
odd one is often a fault of the camera or of the file.
"""

AGREEMENT = """
Over {labelled:,} labelled images. NMI: how much the cluster tells of the class, 0 to 1. ARI: how
often pairs are together in both, 0 by chance. Accuracy: the share that is right when each cluster
is given one class, none twice, in the best way. Purity: the share that is of its cluster's most
frequent class.

The controls are grouped by the same method, number and seed, without anything learnt: what the
model adds is the difference.
"""

OVERVIEW = """
The most central images of each cluster: those that the model finds most typical. The largest
cluster stands first.
"""

TRIED = """
Each number was tried, and the one with the largest silhouette taken: the mean, over a sample, of
how much nearer an image lies to its own cluster than to the next one (1 at best, near 0 where
clusters touch). Where several are about equal, the images do not say which is right: choose by what
you need, with -k.
"""

SIZES = """
Distances are from the cluster's centre: a small mean stands for images much alike.
"""

SHEET = """
{size:,} of {total:,} images. Above those nearest to the centre, below those farthest from it: where
these no longer belong, the cluster ends, or should be divided.
"""
