"""Which images are labelled, and with what, in every form of `--labels`."""
