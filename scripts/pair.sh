# shellcheck shell=bash disable=SC2154 # variables of lib.sh and run
# Two nodes, a and b, that protect each other, each in a network namespace of its own on one bridge:
# what scripts/run --pair adds to a single node. Sourced after lib.sh, not run.
#
#   hitless-br 10.77.0.1/24 ─┬─ hitless-a: media 10.77.0.2 (dataplane), ctl 10.77.0.12 (kernel)
#                            └─ hitless-b: media 10.77.0.3 (dataplane), ctl 10.77.0.13 (kernel)

pair_last() { [ "$1" = a ] && echo 2 || echo 3; }
pair_partner() { [ "$1" = a ] && echo b || echo a; }

# XDP cannot see that a local sender left a checksum to the hardware.
pair_plain() { ethtool -K "$1" tx off rx off gso off tso off gro off >/dev/null 2>&1 || true; }

pair_links() {
  local node ns i
  ip link show hitless-br >/dev/null 2>&1 && die "an interface hitless-br exists already: 'ip link del hitless-br'"
  echo 1 >"$state/undo.pair"
  ip link add hitless-br type bridge
  pair_plain hitless-br
  ip addr add 10.77.0.1/24 dev hitless-br
  ip link set hitless-br up
  for node in a b; do
    ns=hitless-$node
    ip netns add "$ns"
    ip link add "$ns" type veth peer name media netns "$ns"
    ip link add "$ns-c" type veth peer name ctl netns "$ns"
    for i in "$ns" "$ns-c"; do
      pair_plain "$i"
      ip link set "$i" master hitless-br up
    done
    ip netns exec "$ns" sh -c '[ ! -d /proc/sys/net/ipv6 ] ||
      echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6'
    ip netns exec "$ns" ethtool -K media tx off rx off gso off tso off gro off >/dev/null 2>&1 || true
    ip netns exec "$ns" ethtool -K ctl tx off rx off gso off tso off gro off >/dev/null 2>&1 || true
    for i in lo media ctl; do ip -n "$ns" link set "$i" up; done
    ip -n "$ns" addr add "10.77.0.1$(pair_last "$node")/24" dev ctl
  done
}

undo_pair() {
  local node
  for node in a b; do
    ip netns del "hitless-$node" 2>/dev/null
    ip link del "hitless-$node" 2>/dev/null
    ip link del "hitless-$node-c" 2>/dev/null
  done
  ip link del hitless-br 2>/dev/null
}

# An authority of their own and a certificate for each, for as long as the pair runs.
pair_certificates() {
  local node key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
  openssl req -x509 "${key[@]}" -days 30 -subj "/CN=hitless pair" \
    -keyout "$runtime/ca.key" -out "$runtime/ca.pem" 2>/dev/null
  for node in a b; do
    openssl req "${key[@]}" -subj "/CN=$node" -keyout "$runtime/$node.key" \
      -out "$runtime/$node.csr" 2>/dev/null
    openssl x509 -req -days 30 -in "$runtime/$node.csr" -CA "$runtime/ca.pem" \
      -CAkey "$runtime/ca.key" -CAcreateserial -out "$runtime/$node.pem" 2>/dev/null
  done
  rm "$runtime/ca.key"
}

pair_config() {
  local node=$1 last partner other
  last=$(pair_last "$node")
  partner=$(pair_partner "$node")
  other=$(pair_last "$partner")
  mkdir -m 0700 "$runtime/$node"
  cat >"$runtime/$node.yaml" <<YAML
# Written by scripts/run --pair.
node: $node
runtime_dir: $runtime/$node
port:
  kind: af_xdp
  device: media
  own_l3: true
media:
  ipv4: 10.77.0.$last/24
  ipv6: ""
http:
  listen: ["0.0.0.0:8080"]
  status: all
  metrics: all
operator:
  kill_test: true
protection:
  partner:
    name: $partner
    address: 10.77.0.1$other:7100
    media4: 10.77.0.$other:7000
    url: http://10.77.0.1$other:8080
  listen: 10.77.0.1$last:7100
  certificate: $runtime/$node.pem
  key: $runtime/$node.key
  ca: $runtime/ca.pem
  bfd:
    interval_ms: ${pair_bfd_ms:-10}
    key: "${pair_bfd_key:-}"
  takeover_address: ${pair_takes_address:-true}
YAML
}

pair_prepare() {
  local node
  pair_links
  pair_certificates
  for node in a b; do
    pair_config "$node"
    "$controlplane" --check "$runtime/$node.yaml" >&2 || die "$runtime/$node.yaml is not right"
  done
}

# pair_launch NAME DELAY: NAME is PROCESS-NODE. Tests have one node run a program of their own:
# pair_dataplane_b=PATH, say.
pair_launch() {
  local own node=${1##*-} in_node=(ip netns exec "hitless-${1##*-}")
  case $1 in
  controlplane-*)
    own=pair_controlplane_$node
    launch "$1" "$2" "${in_node[@]}" "${!own:-$controlplane}" --config "$runtime/$node.yaml"
    ;;
  dataplane-* | spare-*)
    own=pair_dataplane_$node
    launch "$1" "$2" "${in_node[@]}" "${!own:-$dataplane}" ${spare:+--spare} "$runtime/$node"
    ;;
  watchdog-*) launch "$1" "$2" "$watchdog" "$runtime/$node" "$hang_ms" ;;
  # By default only five may wait to be accepted, and what comes beyond is lost.
  http-a) launch "$1" "$2" socat TCP-LISTEN:8080,fork,reuseaddr,backlog=1024 TCP:10.77.0.12:8080 ;;
  http-b) launch "$1" "$2" socat TCP-LISTEN:8081,fork,reuseaddr,backlog=1024 TCP:10.77.0.13:8080 ;;
  esac
}

# Returns when both are prepared to take their node's dataplane's place.
pair_spares() {
  local i
  launch_one spare-a 0
  launch_one spare-b 0
  for ((i = 0; i < 100; i++)); do
    [ "$(grep -ls 'spare, prepared' "$state"/spare-{a,b}.log | wc -l)" = 2 ] && return
    must_live
    sleep 0.1
  done
  say "the spare dataplanes are not prepared yet; see $state/spare-*.log"
}

pair_connected() {
  "$hitlessctl" -s "$runtime/a/operator.sock" -j show peers 2>/dev/null | grep -q '"connected"'
}

pair_node_object() {
  local port=8080
  [ "$1" = a ] || port=8081
  printf '{"name":"%s","netns":"hitless-%s","control":"%s","dataplane_pid":%s,"controlplane_pid":%s,' \
    "$1" "$1" "$runtime/$1/operator.sock" "${pid_of[dataplane-$1]}" "${pid_of[controlplane-$1]}"
  printf '"media":["10.77.0.%s:7000"],"http":"http://localhost:%s"}' "$(pair_last "$1")" "$port"
}

pair_print_ready() {
  local http=http://localhost:8080
  printf '{"ready":true,"page":"%s/","whip":"%s/whip/{stream}","whep":"%s/whep/{stream}","nodes":[%s,%s]}\n' \
    "$http" "$http" "$http" "$(pair_node_object a)" "$(pair_node_object b)"
}
