"""The parts of the `minipeft` command, one file each; `cli.py` puts them together."""
