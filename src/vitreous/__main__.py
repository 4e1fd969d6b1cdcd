"""`python -m vitreous`."""

from vitreous.cli import main

main()
