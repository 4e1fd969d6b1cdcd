"""From images with poses to maps, and what maps are worth: projection, inversion, resolution, masks, sharpening,
coverage.
"""
