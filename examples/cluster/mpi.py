"""MPI: rank 0 hands out blocks, the other ranks work. Needs srfx[scan] and mpi4py.

mpiexec -n 4 python -m mpi4py.futures mpi.py scan.zarr
"""

import sys

from common import run
from mpi4py.futures import MPIPoolExecutor

if __name__ == "__main__":
    with MPIPoolExecutor() as executor:
        run(sys.argv[1] if len(sys.argv) > 1 else "scan.zarr", executor)
