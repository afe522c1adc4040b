#!/usr/bin/env bash
# A real multi-node Slurm on this one machine, to develop and test the cluster path with. Every
# "node" is a slurmd of its own on the loopback address. Slurm hands out GPUs, but they are not
# there: /dev/null under other names.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tools/devcluster.sh up [--nodes N] [--accounting] [--dir DIR]
       tools/devcluster.sh status [--dir DIR]
       tools/devcluster.sh down [--purge] [--dir DIR]

up      start the cluster (default 4 nodes, n1..n4) and wait until every node can take jobs.
        Prints one line on standard output, so: eval "$(tools/devcluster.sh up)"
        On a running cluster it restarts what died, resumes downed nodes, prints the same line.
status  show nodes and jobs; exit 0 only if the controller answers and every node is up.
down    cancel the jobs, stop every daemon, remove the state. Logs stay unless --purge.

--accounting  also run MariaDB and slurmdbd, so that sacct answers (sites exist with and without)
--dir         the cluster's folder (default: LT_DEVCLUSTER_DIR, else .devcluster in the repo)

Partitions: preempt (default; PriorityTier 1, requeued after 10 s of grace), high (tier 10).
A requeued job waits LT_DEVCLUSTER_REQUEUE_DELAY seconds (default 10, at least 5; real sites: 120)
in BeginTime, or until: scontrol update JobId=N StartTime=now
A node dies (its job steps live on!):  kill "$(cat DIR/run/slurmd-n2.pid)"
An admin takes a node away:            scontrol update NodeName=n2 State=DOWN Reason=test
Both come back with:                   tools/devcluster.sh up
TEXT
}

say() { printf 'devcluster: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# What a surrounding job or a user's habits put in the environment changes how the daemons and
# the clients below behave (and the daemons would hand it on to every job): start clean.
clean_environment() {
  local name
  for name in $(compgen -e); do
    case $name in
      SLURM* | SRUN_* | SBATCH_* | SALLOC_* | SCANCEL_* | SINFO_* | SQUEUE_* | SCONTROL_* | \
        SACCT* | PMI* | MUNGE_* | MYSQL_* | MARIADB_*) unset "$name" ;;
    esac
  done
  export PATH="$PATH:/usr/sbin:/sbin" # a plain user's PATH often lacks the daemons' folders
}

parse_arguments() {
  COMMAND=${1:-} NODES='' ACCOUNTING=0 PURGE='' DIR=${LT_DEVCLUSTER_DIR:-}
  case $COMMAND in
    up | down | status) shift ;;
    help | --help | -h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  while (($#)); do
    case $1 in
      --nodes) NODES=${2:-none}; shift ;;
      --dir) DIR=${2:-}; shift ;;
      --accounting) ACCOUNTING=1 ;;
      --purge) PURGE=1 ;;
      *) usage >&2; die "unknown argument: $1" ;;
    esac
    shift || die "the last option needs a value"
  done
  [[ -z $NODES || $NODES =~ ^[1-9][0-9]?$ ]] || die "--nodes takes a number from 1 to 99"
  REQUEUE_DELAY=${LT_DEVCLUSTER_REQUEUE_DELAY:-10}
  # Slurm takes a smaller number for a mistake and waits its default of 120 s instead.
  ((REQUEUE_DELAY >= 5)) || die "LT_DEVCLUSTER_REQUEUE_DELAY must be at least 5"
  DIR=$(realpath -m -- "${DIR:-$(dirname "${BASH_SOURCE[0]}")/../.devcluster}")
  # Slurm's configuration splits values at blanks and commas and expands % and brackets.
  [[ $DIR =~ ^[A-Za-z0-9_./+@~-]+$ ]] || die "a folder name Slurm cannot hold: $DIR (use --dir)"
  export SLURM_CONF=$DIR/slurm.conf
}

need_packages() {
  local pair missing=() policy=/usr/sbin/policy-rc.d
  local wanted=(slurmctld:slurm-wlm sinfo:slurm-client munged:munge)
  ((!ACCOUNTING)) || wanted+=(mariadbd:mariadb-server slurmdbd:slurmdbd)
  for pair in "${wanted[@]}"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  ((${#missing[@]})) || return 0
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    die "packages are missing; as root: apt-get install -y ${missing[*]}"
  fi
  say "installing ${missing[*]}"
  (
    # Debian's way to keep a package from starting its service: ours run from our own folder.
    if [[ ! -e $policy ]]; then
      trap 'rm -f "$policy"' EXIT
      printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    fi
    apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
    "${apt[@]}" update || say "apt-get update failed; trying with the lists there are"
    "${apt[@]}" install -y "${missing[@]}"
  ) 9<&- || die "apt-get could not install ${missing[*]}"
}

# Everything started here carries our SLURM_CONF from its first instruction on, and so does every
# job step. Unlike a number in a file, that cannot come to mean somebody else's process.
is_ours() { # PID COMMAND
  [[ $1 =~ ^[0-9]+$ && $(cat "/proc/$1/comm" 2>/dev/null) == "$2" ]] &&
    grep -qzxF "SLURM_CONF=$SLURM_CONF" "/proc/$1/environ" 2>/dev/null
}

pid_of() { cat "$DIR/run/$1.pid" 2>/dev/null || true; }
alive() { is_ours "$(pid_of "$1")" "${1%%-*}"; } # NAME, e.g. slurmctld or slurmd-n1

stop() { # NAME...: SIGTERM and at most five seconds; what is left then, stop_all kills
  local i name running=("$@")
  for name; do ! alive "$name" || kill "$(pid_of "$name")" 2>/dev/null || true; done
  for ((i = 0; i < 50 && ${#running[@]}; i++)); do
    running=()
    for name; do ! alive "$name" || running+=("$name"); done
    ((!${#running[@]})) || sleep 0.1
  done
}

# Pids of our daemons, of job steps with all that descends from them (it may have scrubbed its
# environment), and of processes of jobs that lost their slurmstepd.
leftovers() {
  local file pid seeds=()
  while read -r file; do
    pid=${file//[!0-9]/}
    case $(cat "/proc/$pid/comm" 2>/dev/null) in
      munged) ;; # the others need it to finish; it goes last
      slurmstepd | slurmd | slurmctld | slurmdbd | mariadbd) seeds+=("$pid") ;;
      *) ! grep -qz '^SLURM_JOB_ID=' "$file" 2>/dev/null || seeds+=("$pid") ;;
    esac
  done < <(grep -lzxF "SLURM_CONF=$SLURM_CONF" /proc/[0-9]*/environ 2>/dev/null)
  ps -eo pid=,ppid= | awk -v seeds="${seeds[*]}" '
    { parent[$1] = $2 }
    END {
      n = split(seeds, s); for (i = 1; i <= n; i++) ours[s[i]] = 1
      for (pid in parent)
        for (p = pid; p > 1; p = parent[p]) if (p in ours) { print pid; break }
    }'
}

cancel_jobs() { # first of all, so that a waiting srun or sbatch learns of it and ends
  local end=$((SECONDS + 8)) # KillWait and a little more
  alive slurmctld && timeout 5 scontrol ping >/dev/null 2>&1 || return 0
  timeout 10 squeue -h -o %F | sort -u | timeout 10 xargs -r -n 100 scancel || true
  while ((SECONDS < end)) && [[ -n $(timeout 5 squeue -h -o %A) ]]; do sleep 0.2; done
}

stop_all() {
  local i file names=(slurmctld slurmdbd) pids=''
  cancel_jobs
  for file in "$DIR"/run/slurmd-*.pid; do names+=("$(basename "$file" .pid)"); done
  stop "${names[@]}"
  stop mariadbd
  for ((i = 0; i < 20; i++)); do # again and again: a dying step may just have forked
    pids=$(leftovers)
    [[ -n $pids ]] || break
    xargs kill -9 <<<"$pids" 2>/dev/null || true
    sleep 0.2
  done
  stop munged
  [[ -z $pids ]] || die "these do not die: $(xargs <<<"$pids")"
}

wipe() { # name by name: DIR may be a folder that holds other things too
  local short=''
  [[ ! -r $DIR/run/shape ]] || read -r _ _ short <"$DIR/run/shape" || true
  [[ $short != /tmp/devcluster.?????? ]] || rm -rf -- "$short"
  rm -rf -- "$DIR"/{run,state,munge,gpu,db,cgroup} "$DIR"/{slurm,slurmdbd,gres,cgroup}.conf
  [[ -n $PURGE ]] || return 0
  rm -rf -- "$DIR/log" "$DIR/.gitignore"
  rmdir -- "$DIR" 2>/dev/null || true
}

# So many ports in a row that nothing uses, below those that the kernel hands out of its own
# accord: they stay free until the daemons bind them.
free_ports() { # COUNT
  local base port try used
  used=" $(awk '{ split($2, a, ":"); print a[2] }' /proc/net/tcp* | xargs) "
  for ((try = 0; try < 200; try++)); do
    base=$((20000 + RANDOM % 12000))
    for ((port = base; port < base + $1; port++)); do
      [[ $used != *" $(printf %04X "$port") "* ]] || continue 2
    done
    echo "$base"
    return
  done
  die "no $1 free ports in a row"
}

write_slurm_conf() { # FIRST_PORT
  local i me host
  me=$(id -un) host=$(hostname -s)
  # shellcheck disable=SC2054 # the commas are Slurm's
  local settings=(
    ClusterName=devcluster "SlurmctldHost=$host(127.0.0.1)" SlurmctldPort="$1"
    SlurmUser="$me" SlurmdUser="$me" AuthType=auth/munge
    # cred_expire is also how long a requeued job has to wait.
    AuthInfo="socket=$SHORT/munge.socket,cred_expire=$REQUEUE_DELAY"
    StateSaveLocation="$DIR/state" SlurmdSpoolDir="$SHORT/spool/%n"
    SlurmctldPidFile="$DIR/run/slurmctld.pid" SlurmdPidFile="$DIR/run/slurmd-%n.pid"
    SlurmctldLogFile="$DIR/log/slurmctld.log" SlurmdLogFile="$DIR/log/slurmd-%n.log"
    # A new cluster must not hand out the ids of the one before: run folders may still name them.
    FirstJobId=$(($(date +%s) % 60000000 + 1))
    # Follows children into new sessions too, as the cgroups of a real site do.
    ProctrackType=proctrack/linuxproc
    TaskPlugin=task/none MpiDefault=none MailProg=/bin/true
    # Tests wait for these: for a dead slurmd to be noticed, a job to be killed or to be started.
    SlurmdTimeout=15 KillWait=5
    SchedulerType=sched/backfill
    SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
    # A slurmd started again brings its node back. 2 would also undo an admin's State=DOWN, at once.
    ReturnToService=1
    CommunicationParameters=NoInAddrAny,NoCtldInAddrAny # listen on the loopback address alone
    # Slurm's own defaults, spelled out since the code under test depends on them.
    MinJobAge=300 MaxArraySize=1001 MaxJobCount=10000 JobRequeue=1
    # Without memory among the resources: jobs share this machine's, and none is enforced.
    SelectType=select/cons_tres SelectTypeParameters=CR_Core
    # The user signal: else preemption sends SIGTERM alone, whatever --signal asks for.
    PreemptType=preempt/partition_prio PreemptMode=REQUEUE
    SlurmctldParameters=preempt_send_user_signal
    SlurmdParameters=config_overrides GresTypes=gpu # more CPUs than the machine may have
    "PartitionName=preempt Nodes=ALL Default=YES PriorityTier=1 GraceTime=10 PreemptMode=REQUEUE"
    "PartitionName=cancel Nodes=ALL PriorityTier=1 GraceTime=0 PreemptMode=CANCEL"
    "PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF"
  )
  for ((i = 1; i <= NODES; i++)); do
    settings+=("NodeName=n$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$(($1 + 1 + i)) CPUs=4 \
Sockets=1 CoresPerSocket=4 ThreadsPerCore=1 RealMemory=4000 Gres=gpu:4")
  done
  ((!ACCOUNTING)) || settings+=(
    AccountingStorageType=accounting_storage/slurmdbd AccountingStorageHost=127.0.0.1
    AccountingStoragePort=$(($1 + 1)) AccountingStoragePass="$SHORT/munge.socket" # so named
    AccountingStorageTRES=gres/gpu AccountingStorageEnforce=limits JobAcctGatherType=jobacct_gather/linux
  )
  printf '%s\n' "${settings[@]}" >"$SLURM_CONF"
}

write_other_confs() { # FIRST_PORT
  echo "Name=gpu File=$DIR/gpu/gpu[0-3]" >"$DIR/gres.conf"
  # slurmd 22.05 sets up its cgroup plugin even if nothing uses it: give it a folder to play in.
  printf '%s\n' CgroupPlugin=cgroup/v1 CgroupAutomount=no CgroupMountpoint="$DIR/cgroup" \
    >"$DIR/cgroup.conf"
  # The database trusts the user at the other end of its socket: no password to keep.
  (umask 077 && printf '%s\n' DbdHost="$(hostname -s)" DbdAddr=127.0.0.1 DbdPort=$(($1 + 1)) \
    SlurmUser="$(id -un)" AuthType=auth/munge AuthInfo="socket=$SHORT/munge.socket" \
    PidFile="$DIR/run/slurmdbd.pid" LogFile="$DIR/log/slurmdbd.log" \
    StorageType=accounting_storage/mysql StorageUser="$(id -un)" >"$DIR/slurmdbd.conf")
}

configure() {
  local i first
  NODES=${NODES:-4} SHORT=$DIR/run
  mkdir -p "$DIR"/{run,state,munge,gpu,db,cgroup,log}
  chmod 700 "$DIR"/{state,munge,db}
  echo '*' >"$DIR/.gitignore"
  # A unix socket's path ends at 107 bytes; the longest here is spool/n99/n99_JOB.STEP.
  ((${#DIR} <= 60)) || SHORT=$(mktemp -d /tmp/devcluster.XXXXXX)
  chmod 755 "$SHORT" # users other than the cluster's must reach munge
  echo "$NODES $ACCOUNTING $SHORT" >"$DIR/run/shape"
  for ((i = 1; i <= NODES; i++)); do mkdir -p "$SHORT/spool/n$i"; done
  for i in 0 1 2 3; do ln -s /dev/null "$DIR/gpu/gpu$i"; done # Slurm wants a device per GPU
  (umask 077 && head -c 64 /dev/urandom >"$DIR/munge/key")
  first=$(free_ports $((NODES + 2)))
  write_slurm_conf "$first"
  write_other_confs "$first"
}

# Without our lock (fd 9), and away from the caller's pipe, which `eval "$(...)"` reads to its end.
launch() { "$@" </dev/null >>"$DIR/log/launch.log" 2>&1 9<&-; }

# Wait until a command succeeds, for as long as the daemon it asks is there.
wait_for() { # SECONDS DAEMON COMMAND...
  local end=$((SECONDS + $1)) daemon=$2 seen='' answer=''
  while ((SECONDS < end)); do
    ! answer=$("${@:3}" 2>&1) || return 0
    if alive "$daemon"; then seen=1; elif [[ -n $seen ]]; then answer="it has died"; break; fi
    sleep 0.2
  done
  tail -n 5 "$DIR/log/$daemon.log" || true
  die "$daemon is not ready: ${answer:-it took too long}; see $DIR/log"
}

daemon() { # NAME COMMAND...
  alive "$1" || launch "${@:2}" || { tail -n 5 "$DIR/log/launch.log"; die "$1 did not start"; }
}

start_database() {
  local me socket=$SHORT/mysql.socket
  me=$(id -un)
  [[ -d $DIR/db/mysql ]] || launch mariadb-install-db --no-defaults --user="$me" \
    --datadir="$DIR/db" --skip-test-db --auth-root-socket-user="$me" ||
    die "could not create the database; see $DIR/log/launch.log"
  daemon mariadbd setsid --fork mariadbd --no-defaults --user="$me" --datadir="$DIR/db" \
    --socket="$socket" --skip-networking --pid-file="$DIR/run/mariadbd.pid" \
    --log-error="$DIR/log/mariadbd.log" --innodb-flush-log-at-trx-commit=2
  wait_for 60 mariadbd mariadb-admin --no-defaults --socket="$socket" ping
  # slurmdbd.conf has no setting for the socket; the client library reads this variable.
  MYSQL_UNIX_PORT=$socket daemon slurmdbd slurmdbd
  wait_for 20 slurmdbd sacctmgr -n list cluster
  # Before the controller starts, which would not add its cluster itself.
  [[ -n $(sacctmgr -nP list cluster) ]] || launch sacctmgr -i add cluster devcluster
  [[ -n $(sacctmgr -nP list assoc user="$me" format=user) ]] ||
    launch sacctmgr -i add user "$me" account=root
}

# A state with a trailing * is that of a node that does not answer, - of one planned for a job.
all_up() {
  local i name up names=(slurmctld)
  for ((i = 1; i <= NODES; i++)); do names+=("slurmd-n$i"); done
  ((!ACCOUNTING)) || names+=(mariadbd slurmdbd)
  for name in "${names[@]}"; do alive "$name" || { say "$name does not run"; return 1; }; done
  up=$(timeout 10 sinfo -h -N -p preempt -o %T |
    grep -cE '^(idle|mixed|allocated|completing|planned)-?$') || true
  ((up == NODES)) || { say "$up of $NODES nodes are up"; return 1; }
}

registered() { (($(sacctmgr -nP list cluster format=controlport) > 0)); }

start() {
  local i node
  # --force: a checkout that its group may write to is no reason to refuse here.
  daemon munged munged --force --socket="$SHORT/munge.socket" --key-file="$DIR/munge/key" \
    --pid-file="$DIR/run/munged.pid" --log-file="$DIR/log/munged.log" \
    --seed-file="$DIR/munge/seed"
  ((!ACCOUNTING)) || start_database
  daemon slurmctld slurmctld
  for ((i = 1; i <= NODES; i++)); do daemon "slurmd-n$i" slurmd -N "n$i"; done
  wait_for 30 slurmctld scontrol ping
  for node in $(sinfo -h -N -p preempt -t down,drain -o %N); do
    launch scontrol update NodeName="$node" State=RESUME || true
  done
  wait_for 60 slurmctld all_up
  ((!ACCOUNTING)) || wait_for 60 slurmdbd registered
}

load_shape() { read -r NODES ACCOUNTING SHORT <"$DIR/run/shape"; } 2>/dev/null

up() {
  local nodes=$NODES accounting=$ACCOUNTING
  need_packages
  if [[ -n $(leftovers) ]] && load_shape; then
    [[ ${nodes:-$NODES} == "$NODES" ]] || die "it is up with $NODES nodes; run down first"
    ((accounting <= ACCOUNTING)) || die "it is up without accounting; run down first"
    all_up || start
  else
    stop_all # what a crash may have left
    wipe
    configure
    trap 'say "not started, stopping"; stop_all' EXIT
    start
    trap - EXIT
  fi
  say "$NODES nodes are up in $SECONDS s"
}

status() {
  { load_shape && alive slurmctld; } || die "no cluster runs in $DIR"
  timeout 15 scontrol ping >/dev/null || die "the controller does not answer"
  sinfo -N -S N,P -o '%8N %10P %10T %5c %12G %E'
  squeue
  all_up
}

main() {
  local job_of=${SLURM_JOB_ID:+${SLURM_CONF:-}}
  clean_environment
  parse_arguments "$@"
  [[ $COMMAND != down || $job_of != "$SLURM_CONF" ]] || die "leave the job first: it ends with down"
  [[ $COMMAND != status ]] || { status; return; }
  exec 9<"${BASH_SOURCE[0]}" # one up or down at a time, lest two pick the same ports
  flock 9
  if [[ $COMMAND == up ]]; then
    up >&2
    echo "export SLURM_CONF=$SLURM_CONF"
  else
    stop_all
    wipe
  fi
}

main "$@"
