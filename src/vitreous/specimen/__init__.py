"""The specimen: from atoms to the electrostatic potential that the electrons meet. Arrays in, arrays out."""
