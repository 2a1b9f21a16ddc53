"""Every picture of a run, as PNG. Takes arrays and a path; knows no model and no MLflow.

Figures are objects, never pyplot's global state, so drawing is safe in threads and leaks nothing.
The same arrays give the same bytes. Colours are told apart by colour-blind readers.
"""

from handful_training.plots.classification import confusion_matrix, reliability
from handful_training.plots.curves import kl_per_dimension, learning_curves
from handful_training.plots.embedding_map import embedding_map
from handful_training.plots.pictures import reconstructions, samples, strips, traversals
from handful_training.plots.uncertainty import Line, accuracy_by_labels, prediction_set_sizes

__all__ = [
    "Line",
    "accuracy_by_labels",
    "confusion_matrix",
    "embedding_map",
    "kl_per_dimension",
    "learning_curves",
    "prediction_set_sizes",
    "reconstructions",
    "reliability",
    "samples",
    "strips",
    "traversals",
]
