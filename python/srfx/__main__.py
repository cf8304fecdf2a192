"""``python -m srfx``: the command line, as ``srfx`` is."""

from srfx.cli import main

if __name__ == "__main__":
    main()
