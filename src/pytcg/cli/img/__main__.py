"""`python -m pytcg.cli.img`."""

from pytcg.cli.img.main import main

main()
