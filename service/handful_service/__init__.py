"""Serves a bundle over HTTP: bytes → pixels → batch → encoder → embedding → head → answer."""
