"""The page that says whether the VAE is worth it on the user's own images, and why."""
