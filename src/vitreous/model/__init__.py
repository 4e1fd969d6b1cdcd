"""Frozen dataclasses that flow through everything."""
