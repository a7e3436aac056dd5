"""`python -m topwork` is `topwork`."""

from topwork.cli.main import run

if __name__ == "__main__":
    run()
