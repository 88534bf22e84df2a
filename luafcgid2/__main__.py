"""`python -m luafcgid2` is the command `luafcgid2`."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="luafcgid2")
