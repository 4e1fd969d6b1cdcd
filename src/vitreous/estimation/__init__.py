"""What the images say of the microscope: defocus, astigmatism, phase shift, tilt and thickness, with error bars."""
