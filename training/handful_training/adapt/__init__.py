"""Train the encoder on for the classes of a few labels: rounds of graph and network."""
