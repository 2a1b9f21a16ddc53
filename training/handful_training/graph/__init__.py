"""Labels spread over the unlabelled pool: neighbours, their graph, what it says of each node."""
