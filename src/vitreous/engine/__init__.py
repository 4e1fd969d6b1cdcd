"""Running pure functions over chunks of particles."""
