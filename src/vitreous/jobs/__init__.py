"""One frozen dataclass per job, and what every job writes: its folder, its curves, its pictures and its report."""
