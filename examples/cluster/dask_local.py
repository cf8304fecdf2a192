"""dask on one machine: the dry run of a cluster. Needs srfx[dask]."""

import sys

from common import run
from distributed import Client, LocalCluster

if __name__ == "__main__":  # the workers are spawned: they import this file
    out = sys.argv[1] if len(sys.argv) > 1 else "scan.zarr"
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        run(out, client)
