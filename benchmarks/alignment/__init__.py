"""What the benchmarks of alignment share: data with truth, commands of the programs, measures of quality."""
