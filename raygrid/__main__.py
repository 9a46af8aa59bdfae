"""`python -m raygrid`, the form that Ray jobs use."""

from raygrid.cli import main

if __name__ == "__main__":
    main()
