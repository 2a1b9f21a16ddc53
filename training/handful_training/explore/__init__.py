"""What a VAE has learnt, as pictures: traversals, samples, interpolations, a plane."""
