"""Continuous heterogeneity: maps that depend on a latent, from linear subspaces to networks, and what is learned from their latents."""
