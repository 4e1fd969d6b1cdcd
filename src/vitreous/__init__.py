"""vitreous: a glass box for single-particle cryo-EM."""

__version__ = "0.1.0"
