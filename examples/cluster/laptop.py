"""One machine, no processes: each block is one call with all threads."""

import sys

from common import run

if __name__ == "__main__":
    run(sys.argv[1] if len(sys.argv) > 1 else "scan.zarr")
