"""`python -m seedmap`: the command."""

from seedmap._command import main

if __name__ == "__main__":
    main()
