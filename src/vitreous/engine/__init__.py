"""Running pure functions over chunks of particles: in this process now, on many machines later."""
