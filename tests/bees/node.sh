# shellcheck shell=bash
# An appliance and a load machine, each in a network namespace of its own ($node_ns, $load_ns), one
# veth pair between them. Sourced by run and by measurements, not run.
#
# node_start BUILD [YAML…]: lines added to the configuration; node_stop undoes everything. With
# node_queues=N the port has so many pairs of queues.
# From $load_ns the appliance answers on http://10.78.0.1:8080 and http://[fd78::1]:8080.

node_pids=()
node_work=
node_ns=bees-node-$$
load_ns=bees-load-$$
node_queues=1
node_url=http://10.78.0.1:8080

node_network() {
  local ns n
  ip netns add "$node_ns" && ip netns add "$load_ns"
  ip link add eth0 netns "$node_ns" numrxqueues "$node_queues" numtxqueues "$node_queues" type veth \
    peer name eth0 netns "$load_ns" numrxqueues "$node_queues" numtxqueues "$node_queues"
  for n in 1 2; do
    ns=$([ $n = 1 ] && echo "$node_ns" || echo "$load_ns")
    ip -n "$ns" link set lo up
    # XDP cannot see that a local sender left a checksum to the hardware, which veth has none of.
    ip netns exec "$ns" ethtool -K eth0 tx off rx off gso off tso off gro off >/dev/null 2>&1 || true
    ip -n "$ns" addr add 10.78.0.$n/24 dev eth0
    ip -n "$ns" addr add fd78::$n/64 dev eth0 nodad
    ip -n "$ns" link set eth0 up
  done
  # What the defaults allow is too little for a burst to thousands of sockets.
  ip netns exec "$load_ns" sysctl -qw net.ipv4.ip_local_port_range="10000 65000" || true
}

node_start() {
  local build=$1 i preload=()
  shift
  node_work=$(mktemp -d "$([ "$(stat -f -c %T /run)" = tmpfs ] && echo /run || echo /dev/shm)/bees.XXXXXX")
  node_clean_namespaces
  node_network
  mkdir -m 0700 "$node_work/node"
  {
    printf '%s\n' "node: bees" "runtime_dir: $node_work/node" "port:" "  kind: af_xdp" \
      "  device: eth0" "media:" "  ipv4: 10.78.0.1/24" "  ipv6: fd78::1/64" "http:" \
      '  listen: ["0.0.0.0:8080", "[::]:8080"]' "$@"
  } >"$node_work/config.yaml"
  ip netns exec "$node_ns" "$build/controlplane/hitless-controlplane" \
    --config "$node_work/config.yaml" 2>"$node_work/controlplane.log" &
  node_pids+=($!)
  [ "$node_queues" = 1 ] || preload=(env "LD_PRELOAD=$build/tests/bees/veth_queues.so")
  ip netns exec "$node_ns" "${preload[@]}" "$build/dataplane/hitless-dataplane" "$node_work/node" \
    >"$node_work/dataplane.log" 2>&1 &
  node_pids+=($!)
  for ((i = 0; i < 200; i++)); do
    ip netns exec "$load_ns" curl -sf -o /dev/null "$node_url/healthz" && return 0
    sleep 0.1
  done
  tail -n 8 "$node_work/controlplane.log" "$node_work/dataplane.log" >&2
  return 1
}

node_clean_namespaces() {
  ip netns del "$node_ns" 2>/dev/null || true
  ip netns del "$load_ns" 2>/dev/null || true
}

node_stop() {
  local pid i
  for pid in "${node_pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "${node_pids[@]}"; do
    for ((i = 0; i < 60; i++)); do kill -0 "$pid" 2>/dev/null || break; sleep 0.05; done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  node_pids=()
  node_clean_namespaces
  [ -z "$node_work" ] || rm -rf "$node_work"
}

# on_load COMMAND…: on the load machine
on_load() { ip netns exec "$load_ns" "$@"; }
