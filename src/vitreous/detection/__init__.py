"""Detection: from the intensity at the camera to counts, and what the dose does to the specimen. Arrays in, arrays out."""
