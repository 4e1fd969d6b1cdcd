"""Rotations, quaternions, grids of orientations, point groups."""
