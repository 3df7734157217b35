"""`python -m wardgate.simulation --seed 7`: live one random installation's life, with everything it logs."""

import argparse
import logging
import os
import sys

from wardgate.simulation.random_pools import run_pools_seed
from wardgate.simulation.random_world import run_seed


def main() -> None:
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets of text depends on it; the test run fixes it too.
        os.execve(
            sys.executable,
            [sys.executable, "-m", "wardgate.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )  # ourselves, again
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--pools", action="store_true", help="a life of device pools")
    parser.add_argument("--debug", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.DEBUG if options.debug else logging.INFO)
    run = run_pools_seed if options.pools else run_seed
    print(run(options.seed, steps=options.steps))  # noqa: T201  # its output


if __name__ == "__main__":
    main()
