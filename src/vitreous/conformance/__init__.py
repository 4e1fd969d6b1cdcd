"""Conformance: every number of the physics contract, and what this program answers."""
