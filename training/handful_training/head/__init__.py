"""From a handful of labelled embeddings to a calibrated classifier as an ONNX graph."""
