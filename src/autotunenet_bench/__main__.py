"""``python -m autotunenet_bench`` is the command ``autotunenet-bench``."""

from autotunenet_bench.cli import main

if __name__ == "__main__":
    main()
