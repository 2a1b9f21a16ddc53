"""What the report says to somebody who knows none of the words. Blank lines divide paragraphs."""

LADDER = {
    "out of fold": """\
Each way gets the same labels and answers for the same {n:,} labelled images, each image by a fit
that had not seen its label. """,
    "unused labels": """\
Each way gets the same {labels:,} labels and answers for the same {n:,} images, whose labels were
left over. """,
}
COMPARED = """\
The first ones learn nothing from your images but their principal components: they are what the
VAE has to beat. Lines are 95 % intervals. All ways see the same images: “served is better by” is
a paired comparison, in points with its 95 % interval, and can tell more than lines that overlap."""
TRANSDUCTIVE = """

Ways marked “needs the images beforehand” answer only for images that lay in the folder when the
labels were spread. They are no service; what is served must answer for any image."""
NO_LADDER_LABELS = "There are no labels, so nothing can be compared."
NO_LADDER = """\
A class has a single label. It cannot be held out, so nothing honest can be said about accuracy.
Two labels of each class are enough to begin with."""

CURVE = """\
Parts of your own labels, several draws of each size; accuracy on labels that a draw did not use.
Lines that still rise say that more labels help; the distance between them, what the encoder is
worth at that many."""

RELIABILITY = """\
Of the images on which the head is 80 % sure, 80 % should be right: points on the dashed line. The
calibration error is the mean distance, {ece}. On few images it is overstated: a perfect
forecaster of ten classes shows about 10 % on 100 images."""

SETS_NONE = """\
A set that holds the right class {level} of the time needs {needed} labels or more of which each
was predicted without itself; there are {count}. Until then every set is all classes: that is
certain and useless, but not wrong."""
SETS = """\
Beside the label the service gives a set of classes that should hold the right one {level} of the
time. On {n:,} images here it did {coverage} of the time ({low} to {high}), with {size:.1f}
classes on average. The threshold was found on {count:,} labels; with so many the true share may
be a few points off, and if the labels were not chosen at random, more."""
SETS_SAME = """

The threshold was found on these very images, so that this share says little; labels that were not
used would say more."""

NOVELTY = """\
The head abstains where an image resembles nothing that it was trained on: a novelty above
{threshold:.2f}. It was set so that {rate} of ordinary images are refused; of your own {n:,}
images {above} are. Below are those with the highest novelty: broken files, strangers, or the rare
thing that you are after."""
NO_NOVELTY = "This version has no measure of novelty: it answers for any image, however strange."

SUGGESTED = """\
The images whose labels would teach the head most, by the labels it has: `handful-train suggest
{name} IMAGES -n {count}` writes them to a file, with as many as you like.

Chosen images say nothing about accuracy: they are the hard ones. For an honest figure label some
that are drawn at random, `--audit`."""

CONFUSION = "Rows are the right classes, columns what was answered, for the images compared above."
MAP = "Images that the encoder takes for alike lie together. What is labelled is coloured."
RECONSTRUCTIONS = """\
Each image, and what the decoder makes of its latent code: what is lost here, the code does not
hold. The encoder was also taught to ignore what the views below show, so some loss is meant."""
SAMPLES = "Latent codes drawn at random and decoded: images that there are not."
TRAINING = (
    "How the training went. −ELBO says how well images are explained; it does not rank features."
)
VIEWS = """\
What the encoder was taught to take for the same thing. If one of these changes what an image
means to you (a mirrored letter, a turned arrow), choose another `augment.preset` and train
again."""

DATA = "What was read, and how the labels are spread over the classes."
PROVENANCE = "Where this version comes from. The same images, settings and seed give it again."

READING = """\
The verdict compares what is served with the best of the ways that learn nothing, on the same
images. “Cannot tell” is a result: with few labels a difference must be large to show. Which of
these ways is best is decided on the same images, which favours it a little.

Every way gets one temperature from predictions that are out of fold, so that log loss and
calibration error compare confidence, not how a method happens to scale it.

What the VAE gives besides accuracy is not in the verdict: decoding and sampling, novelty, a
likelihood, a look at what was learnt. Pixels and a graph give none of these.

If the verdict is no, the images may be aligned and simple enough that pixels suffice, the
training too short (look at its curves), or the augmentation wrong for them (look at the views)."""
