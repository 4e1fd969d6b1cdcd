"""From a specimen to the images that a microscope would take of it, with everything known about each of them."""
