"""`python -m luafcgid2` is the command `luafcgid2`."""

from .start import main

if __name__ == "__main__":
    main()
