"""Classes, orientations and shifts of particles that nobody has told: expectation-maximisation as a matrix product."""
