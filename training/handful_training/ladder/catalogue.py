"""What the rungs are called, in reports and tables, and what each may lean on.

`pixels_…` learn nothing from images but what lies in PCA and a graph: the controls. The rest use
an encoder, and are named after how it was trained: `vae_…`, `adapted_…`, `random_…`.
"""

from dataclasses import dataclass
from typing import Literal

Group = Literal["control", "frozen", "adapted"]


@dataclass(frozen=True)
class Entry:
    """A rung as people see it.

    Attributes:
        title: short.
        group: which part of the ladder it belongs to.
        transductive: it needs the very images it answers for beforehand, hence is not served.
        text: one sentence for somebody who knows none of the words.
    """

    title: str
    group: Group
    transductive: bool
    text: str


PIXELS_NEAREST = "pixels_nearest"
PIXELS_LINEAR = "pixels_linear"
PIXELS_GRAPH = "pixels_graph"
PIXELS_GRAPH_WHITENED = "pixels_graph_whitened"
VAE_LINEAR = "vae_linear"
VAE_GRAPH = "vae_graph"
VAE_BOTH = "vae_both"
VAE_SERVED = "vae_served"
ADAPTED_GRAPH = "adapted_graph"
ADAPTED_SERVED = "adapted_served"
RANDOM_GRAPH = "random_graph"
RANDOM_SERVED = "random_served"

ENTRIES = {
    PIXELS_NEAREST: Entry(
        "Nearest images in pixels",
        "control",
        transductive=False,
        text="The five labelled images whose pixels are nearest vote.",
    ),
    PIXELS_LINEAR: Entry(
        "PCA of pixels, linear",
        "control",
        transductive=False,
        text="Logistic regression on the first 50 principal components of the pixels.",
    ),
    PIXELS_GRAPH: Entry(
        "PCA of pixels, graph",
        "control",
        transductive=True,
        text="Labels spread from image to similar image, over all unlabelled ones.",
    ),
    PIXELS_GRAPH_WHITENED: Entry(
        "Whitened PCA of pixels, graph",
        "control",
        transductive=True,
        text="The same with the components evened out: the strongest way that learns nothing.",
    ),
    VAE_LINEAR: Entry(
        "VAE, linear",
        "frozen",
        transductive=False,
        text="Logistic regression on the embeddings of the encoder.",
    ),
    VAE_GRAPH: Entry(
        "VAE, graph",
        "frozen",
        transductive=True,
        text="Labels spread over all unlabelled images, similar by their whitened embeddings.",
    ),
    VAE_BOTH: Entry(
        "VAE, linear and graph",
        "frozen",
        transductive=True,
        text="The geometric mean of the two.",
    ),
    VAE_SERVED: Entry(
        "VAE, as served",
        "frozen",
        transductive=False,
        text="The head that was fitted on the embeddings and answers /classify.",
    ),
    ADAPTED_GRAPH: Entry(
        "Adapted VAE, graph",
        "adapted",
        transductive=True,
        text="The encoder trained on with the labels, then as “VAE, graph”.",
    ),
    ADAPTED_SERVED: Entry(
        "Adapted VAE, as served",
        "adapted",
        transductive=False,
        text="The encoder trained on with the labels, and its own head.",
    ),
    RANDOM_GRAPH: Entry(
        "Adapted from a random start, graph",
        "adapted",
        transductive=True,
        text="The same training without a VAE before it, then as “VAE, graph”: a control.",
    ),
    RANDOM_SERVED: Entry(
        "Adapted from a random start",
        "adapted",
        transductive=False,
        text="The same training without a VAE before it: a control.",
    ),
}
CONTROLS = tuple(key for key, entry in ENTRIES.items() if entry.group == "control")
