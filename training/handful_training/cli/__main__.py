"""`python -m handful_training.cli` does what `handful-train` does."""

from handful_training.cli.main import main

if __name__ == "__main__":
    main()
