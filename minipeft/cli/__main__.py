"""`python -m minipeft.cli`: the command, where no script is installed (torchrun needs a module)."""

from .main import main

if __name__ == "__main__":
    main()
