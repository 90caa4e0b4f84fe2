"""Lets `python -m wsclean_client.cli` do what `wsclean-ctl` does."""

from wsclean_client.cli import main

main()
