"""Fourier space: transforms, shells, filters, convolution, interpolation, scattered and non-uniform data.

Arrays in, arrays out, NumPy and JAX alike. The layout is that of `vitreous.conventions`: `rfftn`, zero frequency in the
corner, forward unnormalised, and the real-space origin (index N // 2) at phase 0.
"""
