"""Runs, metrics and model versions in MLflow. The only part of training that knows MLflow.

    tracker = Tracker.open()
    with tracker.run("handful", tags=origin()) as run:
        run.params({"model": {"latent_dim": 64}})
        with run.child("pretrain") as child:
            child.metrics({"neg_elbo": 251.3}, step=1)
        version = tracker.registry.register("handful", bundle_dir, run, out_of_fold=predictions)
    decision = tracker.registry.consider("handful", version)

MLflow takes seconds to import, so it is imported when a tracker opens, never before.
"""

from handful_training.tracking.origin import origin
from handful_training.tracking.registry import Registry, Version
from handful_training.tracking.runs import Run
from handful_training.tracking.tracker import Tracker

__all__ = ["Registry", "Run", "Tracker", "Version", "origin"]
