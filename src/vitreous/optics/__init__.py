"""Electron optics: from the voltage to the contrast transfer function. Arrays in, arrays out."""
