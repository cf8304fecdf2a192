"""dask on Slurm: workers are jobs. Needs srfx[dask] and dask-jobqueue; run it on a login node.

    python dask_slurm.py scan.zarr            # submits the jobs, scans, ends them
    python dask_slurm.py --show               # prints the job script and stops

A block that a killed or timed-out worker leaves is run by another; if this process itself ends, run
it again: it goes on with the store.
"""

import sys

from common import run
from dask_jobqueue import SLURMCluster
from distributed import Client

if __name__ == "__main__":
    cluster = SLURMCluster(
        cores=16,  # of a job,
        processes=1,  # one worker process with
        memory="16GB",
        walltime="01:00:00",
        job_extra_directives=["--hint=nomultithread"],
        scheduler_options={"dashboard_address": None},
    )  # sixteen threads, each of which works on a block of its own
    if "--show" in sys.argv:
        print(cluster.job_script())
    else:
        cluster.adapt(minimum_jobs=1, maximum_jobs=20)
        with Client(cluster) as client:
            run(sys.argv[1] if len(sys.argv) > 1 else "scan.zarr", client)
    cluster.close()
