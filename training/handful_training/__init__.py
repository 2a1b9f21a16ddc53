"""From unlabelled images and a handful of labels to a registered bundle."""
