"""`python run_benchmark.py --config FILE` is `autotunenet-bench run --config FILE`."""

import sys

from autotunenet_bench.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
