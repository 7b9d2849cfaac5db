# shellcheck shell=bash
# Helpers of the scripts here: messages, processes by pid and start time, and the state of a running
# appliance, from which everything can be undone, also after the supervisor was killed.
# Sourced, not run.

runtime=/run/hitless # also the default of runtime_dir in the configuration
state=$runtime/run

say() { echo "${0##*/}: $*" >&2; }
die() { say "$@"; exit 1; }

# A process is known by pid and start time (field 22 of /proc/PID/stat), because pids are reused.
start_time() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # shellcheck disable=SC2086 # the fields are to be split
  set -- ${stat##*) }
  # A zombie is gone, too.
  [ "$1" != Z ] && echo "${20}"
}

# record NAME PID
record() { echo "$2 $(start_time "$2")" >"$state/pid.$1"; }

# recorded NAME: prints its pid if that very process still lives
recorded() {
  local pid start
  read -r pid start 2>/dev/null <"$state/pid.$1" || return 1
  [ -n "$start" ] && [ "$(start_time "$pid")" = "$start" ] && echo "$pid"
}

# end NAME SIGNAL SECONDS: asks, waits, then forces
end() {
  local pid i
  pid=$(recorded "$1") || { rm -f "$state/pid.$1"; return 0; }
  kill "-$2" "$pid" 2>/dev/null || true
  for ((i = 0; i < $3 * 20; i++)); do
    recorded "$1" >/dev/null || break
    sleep 0.05
  done
  if pid=$(recorded "$1"); then
    say "$1 (pid $pid) did not end in $3 s, killing it"
    kill -KILL "$pid" 2>/dev/null || true
  fi
  rm -f "$state/pid.$1"
}

is_tmpfs() { [ "$(stat -f -c %T "$1" 2>/dev/null)" = tmpfs ]; }

# The channel and keys must not reach a disk: make a tmpfs where /run is none.
make_runtime_dir() {
  mkdir -p "$runtime"
  chmod 0700 "$runtime"
  is_tmpfs "$runtime" || mount -t tmpfs -o mode=0700,size=512m,nosuid,nodev,noexec hitless "$runtime"
  mkdir -p "$state"
}

remove_runtime_dir() {
  [ -d "$runtime" ] || return 0
  if [ "$(findmnt -n -o SOURCE -M "$runtime" 2>/dev/null)" = hitless ]; then
    umount "$runtime" 2>/dev/null || umount -l "$runtime" # its log may still be open
    rmdir "$runtime"
  else
    rm -rf "$runtime"
  fi
}

# make_links: the kernel's hitless0 and the dataplane's hitless1. XDP cannot see that a local
# sender left a checksum to the hardware, so checksum offload goes off on both ends.
make_links() {
  ip link show hitless0 >/dev/null 2>&1 && die "an interface hitless0 exists already: 'ip link del hitless0'"
  echo hitless0 >"$state/undo.link"
  ip link add hitless0 type veth peer name hitless1
  for i in hitless0 hitless1; do
    ethtool -K $i tx off rx off gso off tso off gro off >/dev/null 2>&1 || true
  done
  ip addr add 10.77.0.1/24 dev hitless0
  if [ -d /proc/sys/net/ipv6/conf/hitless0 ]; then
    echo 1 >/proc/sys/net/ipv6/conf/hitless1/disable_ipv6
    echo 0 >/proc/sys/net/ipv6/conf/hitless0/disable_ipv6
    ip link set hitless0 addrgenmode none
    ip -6 addr add fd77::1/64 dev hitless0 nodad
  fi
  ip link set hitless1 up
  ip link set hitless0 up
}

free_hugepages_mb() {
  local dir kb total=0
  for dir in /sys/kernel/mm/hugepages/hugepages-*; do
    [ -r "$dir/free_hugepages" ] || continue
    kb=${dir##*-} kb=${kb%kB}
    total=$((total + $(cat "$dir/free_hugepages") * kb / 1024))
  done
  echo "$total"
}

# reserve_hugepages MB: true if so many are free now, adding 2 MB pages if memory is plenty
reserve_hugepages() {
  local have old now add nr=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
  have=$(free_hugepages_mb)
  [ "$have" -ge "$1" ] && return 0
  [ -w $nr ] || return 1
  [ "$(awk '/^MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)" -ge $(($1 * 4)) ] || return 1
  old=$(cat $nr)
  add=$((($1 - have + 1) / 2))
  echo "$add" >"$state/undo.hugepages"
  { echo $((old + add)) >$nr; } 2>/dev/null || true
  now=$(cat $nr)
  if [ "$now" -lt $((old + add)) ]; then
    { echo "$old" >$nr; } 2>/dev/null || true
    rm "$state/undo.hugepages"
    return 1
  fi
}

# Gives back as many as we added; somebody else may have added more since.
return_hugepages() {
  local now nr=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
  [ -r "$state/undo.hugepages" ] || return 0
  now=$(($(cat $nr) - $(cat "$state/undo.hugepages")))
  echo $((now > 0 ? now : 0)) >$nr
}

# Takes our XDP program, and no other, off an interface that stays.
detach_xdp() {
  local id
  id=$(ip -d link show dev "$1" 2>/dev/null | sed -n 's/.*prog\/xdp id \([0-9]*\).*/\1/p') || return 0
  [ -n "$id" ] || return 0
  PATH=$PATH:/usr/sbin bpftool prog show id "$id" 2>/dev/null | grep -q 'name hitless_steer' || return 0
  ip link set dev "$1" xdp off
}

# Everything that a start did, undone; each step by itself, and nothing that was not recorded.
undo_all() {
  local -
  set +e
  [ -d "$state" ] || return 0
  local name
  end demo INT 3
  for name in watchdog watchdog-a watchdog-b; do
    end "$name" TERM 5
  done
  # SIGQUIT: the control plane ends every session first, which the dataplane has yet to tell clients.
  for name in controlplane controlplane-a controlplane-b; do
    end "$name" QUIT 5
  done
  for name in dataplane spare spare-a spare-b dataplane-a dataplane-b http-a http-b; do
    end "$name" TERM 5
  done
  [ -r "$state/undo.xdp" ] && detach_xdp "$(cat "$state/undo.xdp")"
  if [ -r "$state/undo.link" ]; then
    ip link del "$(cat "$state/undo.link")" 2>/dev/null || true
  fi
  [ -r "$state/undo.pair" ] && undo_pair
  return_hugepages
  remove_runtime_dir
}

# The browser tests' npm packages, as the lock file names them. A module that is there may be of an
# older lock file.
make_npm_packages() { # FOLDER
  [ "$1/node_modules/.package-lock.json" -nt "$1/package-lock.json" ] ||
    (cd "$1" && npm ci --no-audit --no-fund --silent >&2) || die "npm ci failed in $1"
}

# make_whip_client DIR: a command line in whip_client that runs Debian's whip-client. As packaged in
# Debian 12 it aborts: it links libsoup 2.4, GStreamer's ICE links libnice, which for its UPnP
# draws in libsoup 3, and the two refuse each other. Nobody needs UPnP here, so a library of that
# name without it stands in.
make_whip_client() {
  local lib=$1/libgupnp-igd-1.0.so.4
  mkdir -p "$1"
  [ -f "$lib" ] || cc -shared -fPIC -Wl,-soname,libgupnp-igd-1.0.so.4 -x c -o "$lib" - <<'C'
unsigned long gupnp_simple_igd_get_type(void) { return 80; /* G_TYPE_OBJECT */ }
void *gupnp_simple_igd_thread_new(void) { return 0; }
void gupnp_simple_igd_add_port(void) {}
void gupnp_simple_igd_remove_port_local(void) {}
C
  # shellcheck disable=SC2034 # the result
  whip_client=(env "LD_LIBRARY_PATH=$1" whip-client)
}
