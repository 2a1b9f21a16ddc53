"""How unlike the unlabelled pool an image is, told from its embedding alone."""
