"""`python -m smoothctl`, so that `accelerate launch -m smoothctl …` works."""

from smoothctl.cli import main

if __name__ == "__main__":
    main()
