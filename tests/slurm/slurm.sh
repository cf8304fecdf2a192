#!/usr/bin/env bash
# A Slurm of one node on this machine, for tests: `slurm.sh start FOLDER` and `slurm.sh stop FOLDER`. Keys, sockets, logs and state are
# in FOLDER, and SLURM_CONF=FOLDER/slurm.conf makes srun and the others use it. Needs root, and Debian's slurmctld, slurmd, slurm-client
# and munge; nothing of their own configuration is read or changed. The node claims more processors than it has, so that jobs for real
# nodes fit.
set -euo pipefail
action=$1 folder=$(realpath "$2")
export SLURM_CONF=$folder/slurm.conf

wait_for() { # seconds, command ...
  local end=$((SECONDS + $1))
  shift
  until "$@" > /dev/null 2>&1; do
    if ((SECONDS > end)); then
      echo "slurm.sh: waited in vain for: $*" >&2
      tail -n 5 "$folder"/*.log >&2 || true
      return 1
    fi
    sleep 0.2
  done
}

end() { # a daemon, by its own file
  local pid
  pid=$(cat "$1" 2> /dev/null) || return 0
  kill "$pid" 2> /dev/null || return 0
  wait_for 20 bash -c "! kill -0 $pid" || kill -9 "$pid"
}

stop() {
  timeout 20 scancel --state=RUNNING,PENDING --user=root 2> /dev/null || true
  sleep 1
  for daemon in slurmd slurmctld munged; do end "$folder/$daemon.pid"; done
}

start() {
  mkdir -p "$folder/spool" "$folder/state"
  chmod 755 "$folder"
  local host port
  host=$(hostname -s)
  port=$((20000 + RANDOM % 20000))
  dd if=/dev/urandom of="$folder/munge.key" bs=1024 count=1 status=none
  chmod 400 "$folder/munge.key"
  cat > "$folder/slurm.conf" << CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort=$port
SlurmdPort=$((port + 1))
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
CryptoType=crypto/munge
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SlurmdSpoolDir=$folder/spool
StateSaveLocation=$folder/state
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
InactiveLimit=0
MpiDefault=${SRFX_SLURM_MPI:-none}
NodeName=$host NodeAddr=127.0.0.1 CPUs=64 RealMemory=200000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
  slurmctld -f "$SLURM_CONF"
  slurmd -f "$SLURM_CONF"
  wait_for 60 bash -c "sinfo -h -o %T | grep -qE '^(idle|mixed)'"
  wait_for 30 srun --quiet true
}

case $action in
  start) start || { stop; exit 1; } ;;
  stop) stop ;;
  *) echo "slurm.sh: start or stop, not $action" >&2; exit 2 ;;
esac
