"""From a micrograph to particle images: finding the particles, and cutting them out."""
