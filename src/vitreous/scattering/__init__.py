"""Scattering: from the potential of the specimen to the electron wave behind it. Arrays in, arrays out."""
