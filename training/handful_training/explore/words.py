"""What stands beside the pictures of an exploration, for readers who know no VAE."""

LEAD = """
The model was trained on images without labels to press each into a few numbers and to rebuild it
from them. These pictures show what those numbers stand for. All are made by the exported model
itself, as it is served.
"""

RECONSTRUCTIONS = """
Each image of the upper row was pressed into {dimensions} numbers, its latent, and rebuilt from
them below. What the lower row keeps is what the model can see; what is missing or smoothed away
cannot help it to tell images apart.
"""

TRAVERSALS = """
All rows start from the most typical image ({start}). In each, one number of its latent runs from
−3 to +3 standard deviations, which covers nearly all images; the others stay as they are. A row
that changes something nameable, such as width or brightness, is a property that the model has
found by itself.

The most informative dimension stands first: its KL, in nats, says how much images make use of it.
{active} of {dimensions} dimensions carry more than {threshold} nats; the others are unused, and
varying them changes nothing.
"""

CLASS_SAMPLES = """
The first row of a class is drawn, not photographed: latents from around those of its labelled
images, decoded. Draws of a class that look like another class mean that the two lie close
together, or that a class has too few labels to be placed.

{real}
"""

BY_LABELS = "The second row of a class holds images that bear its label."

BY_HEAD = """The second row of a class holds images that the classifier takes for it: one that does
not belong there is an error of the classifier."""

INTERPOLATIONS = """
The outermost columns are images as they are; 0% and 100% are their reconstructions, and between
them the latent turns from the one to the other. Steps that all look like plausible images, changing
gradually, show that the latent space has no holes there; a sudden change marks the border between
two kinds.

The way is an arc: its direction turns evenly and its norm changes linearly. A straight line would
cut through the middle of the space, where latents rarely lie and the model paints an average
image.
"""

PRINCIPAL_PLANE = """
A map of what the model has seen: the two directions in which the latents of the images differ most,
which hold {first:.0%} and {second:.0%} of their variance, from −2.5 standard deviations at the left
and bottom to +2.5 at the right and top. Every thumbnail is decoded; neighbours should look alike.
"""

PLANE_OF_THREE = """
The model's view of everything between three images: {a} lies where u = 0 and v = 0 (third row and
column), {b} where u = 1 (to the right), {c} where v = 1 (below). Where both are 1 lies the first
image with the changes of the two others.
"""

SAMPLES = """
Latents drawn blindly from the standard normal distribution, decoded. If the model has learnt the
distribution of the images, these look like images that could have been among them. Mixtures of
several kinds come from the space between the kinds.
"""
