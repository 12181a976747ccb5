"""``python -m mrlinac``."""

from mrlinac.cli import main

if __name__ == "__main__":  # guarded, so that spawned worker processes do not start the command again
    main()
