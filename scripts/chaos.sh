#!/usr/bin/env bash
# Holds a real cluster to its promises while its nodes are killed, paused and cut off.
#
#   scripts/chaos.sh [--seconds N] [--acks majority|sync|semi-sync|async] [--nodes N]
#                    [--faults NAME,...]
#
# Each node runs in a network namespace of its own, on a bridge in another; `trefoil check` runs in
# one that reaches all nodes, so that a leader that is cut off from its followers keeps its clients.
# The faults take turns, one at a time, for N seconds (default 60); then everything is healed, all
# keys are read on all nodes, and the history is judged. Fails where anything is wrong.
#
# Needs root, for the namespaces, and python3. Builds Trefoil, or takes the program $TREFOIL.
# Everything that it makes ends with it; what the nodes said is kept if anything was wrong.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; }
refuse() {
    echo "chaos.sh: $*" >&2
    exit 2
}

seconds=60 acks=majority nodes=3
faults=(leader-isolated leader-killed leader-paused leader-unheard leader-deaf follower-isolated
    all-killed follower-killed leader-and-follower-parted follower-paused)
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || { usage; exit 2; }
    case "$1" in
    --seconds) seconds=$2 ;;
    --acks) acks=$2 ;;
    --nodes) nodes=$2 ;;
    --faults)
        known=" ${faults[*]} "
        IFS=, read -ra faults <<<"$2"
        for fault in "${faults[@]}"; do
            [[ $known = *" $fault "* ]] || refuse "--faults: no \`$fault\`; there are:$known"
        done
        ;;
    *) usage; exit 2 ;;
    esac
    shift 2
done
[[ $seconds =~ ^[0-9]{2,5}$ ]] || refuse "--seconds: $seconds is not a number from 10 to 99999"
[[ $nodes =~ ^[2-9]$ ]] || refuse "--nodes: $nodes is not a number from 2 to 9"
[[ $acks =~ ^(majority|sync|semi-sync|async)$ ]] || refuse "--acks: there is no \`$acks\`"

# How long a fault lasts, and how long the cluster has afterwards; seconds.
hold=3 settle=2
# The network inside the namespaces: nobody else sees it.
subnet=10.213.7

[ "$(id -u)" = 0 ] || refuse "network namespaces need root: run it as root"
install() {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null
}
command -v ip >/dev/null || install iproute2
command -v iptables >/dev/null || install iptables
command -v python3 >/dev/null || refuse "python3 is missing"

if [ -z "${TREFOIL:-}" ]; then
    nice cargo build --release --quiet --locked -p trefoil
    TREFOIL=${CARGO_TARGET_DIR:-target}/release/trefoil
fi
TREFOIL=$(readlink -f "$TREFOIL")
[ -x "$TREFOIL" ] || refuse "$TREFOIL is no program"

directory=$(mktemp -d "${TMPDIR:-/tmp}/trefoil-chaos-XXXXXX")
name=tf$$
spaces=() pids=() check=

finish() {
    local code=$? pid space keep=
    trap - EXIT
    if [ "$code" != 0 ] && [ "$code" != 130 ] && ls "$directory"/*.log >/dev/null 2>&1; then
        keep=yes
        echo "the nodes' logs and the history are kept in $directory" >&2
    fi
    # From here on the shell would only say that its children were killed.
    exec 2>/dev/null
    [ -z "$check" ] || kill "$check" || true
    for pid in "${pids[@]}"; do kill -KILL "$pid" || true; done
    wait || true
    for space in "${spaces[@]}"; do ip netns del "$space" || true; done
    if [ -n "$keep" ]; then rm -rf "$directory"/data-*; else rm -rf "$directory"; fi
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# --- the network -------------------------------------------------------------------------------

add_space() {
    ip netns add "$1" || not_permitted
    spaces+=("$1")
    ip -n "$1" link set lo up || not_permitted
}
not_permitted() {
    echo "chaos.sh: network namespaces are not permitted here (CAP_SYS_ADMIN, CAP_NET_ADMIN)" >&2
    exit 1
}
join() { # namespace, last byte of its address
    ip link add "p$2" netns "${name}sw" type veth peer name eth0 netns "$1" || not_permitted
    ip -n "${name}sw" link set "p$2" master br0 up
    ip -n "$1" address add "$subnet.$2/24" dev eth0
    ip -n "$1" link set eth0 up
}
inside() { # node or `c`, command...
    local space=$name$1
    shift
    ip netns exec "$space" "$@"
}

add_space "${name}sw"
ip -n "${name}sw" link add br0 type bridge || not_permitted
ip -n "${name}sw" link set br0 up
for node in $(seq "$nodes"); do
    add_space "$name$node"
    join "$name$node" "$node"
    inside "$node" iptables -w -L INPUT -n >/dev/null || not_permitted
done
add_space "${name}c"
join "${name}c" 100

# --- the cluster -------------------------------------------------------------------------------

{
    printf '[cluster]\nname = "chaos"\nsecret = "%016x"\n' $$
    for node in $(seq "$nodes"); do
        printf '[[node]]\nname = "n%s"\ndatacenter = "here"\nclient = "%s:7001"\npeer = "%s:7101"\n' \
            "$node" "$subnet.$node" "$subnet.$node"
    done
    printf '[[keyspace]]\nprefix = "user:"\nmodel = "leader-follower"\nreplicas = %s\nacks = "%s"\n' \
        "$nodes" "$acks"
} >"$directory/cluster.toml"

# The nodes end when their input does: when this script ends, however it ends.
mkfifo "$directory/alive"
exec 8<>"$directory/alive"

start() { # node
    ip netns exec "$name$1" "$TREFOIL" serve --config "$directory/cluster.toml" --node "n$1" \
        --data "$directory/data-$1" --parent-pipe <"$directory/alive" \
        >>"$directory/n$1.log" 2>&1 8>&- &
    pids[$1]=$!
}

# What the nodes say of `user:`: the number of the node that leads in the newest epoch.
leader() {
    local node
    for node in $(seq "$nodes"); do
        inside c timeout 2 "$TREFOIL" status --host "$subnet.$node" --port 7001 --json \
            2>/dev/null || true
    done | python3 -c '
import json, sys
best = (0, "")
for line in sys.stdin:
    status = json.loads(line)
    for keyspace in status["keyspaces"]:
        for group in keyspace["groups"]:
            if keyspace["prefix"] == "user:" and group.get("role") == "leader":
                best = max(best, (group["epoch"], status["node"]))
print(best[1].removeprefix("n"))'
}
wait_for_leader() {
    local found
    for _ in $(seq 150); do
        found=$(leader)
        if [ -n "$found" ]; then
            echo "$found"
            return
        fi
        sleep 0.1
    done
    echo "nobody leads; what the nodes said:" >&2
    tail -n 20 "$directory"/n*.log >&2
    return 1
}

for node in $(seq "$nodes"); do start "$node"; done
wait_for_leader >/dev/null

# --- the faults --------------------------------------------------------------------------------

others() { seq "$nodes" | grep -vx "$1"; }
deafen() { # listener, speaker: nothing that the second says reaches the first
    inside "$1" iptables -w -A INPUT -s "$subnet.$2" -j DROP
}
heal_network() {
    local node
    for node in $(seq "$nodes"); do inside "$node" iptables -w -F INPUT; done
}
crash() { # nodes...
    local node
    for node in "$@"; do kill -KILL "${pids[$node]}"; done
    for node in "$@"; do wait "${pids[$node]}" 2>/dev/null || true; done
}

# One fault with its end. $1: its name; $2: the leader; $3: a follower.
fault() {
    local node
    case "$1" in
    leader-isolated)
        for node in $(others "$2"); do deafen "$2" "$node" && deafen "$node" "$2"; done
        sleep $hold
        heal_network
        ;;
    leader-killed) crash "$2" && sleep $hold && start "$2" ;;
    leader-paused)
        kill -STOP "${pids[$2]}"
        sleep $hold
        kill -CONT "${pids[$2]}"
        ;;
    leader-unheard)
        for node in $(others "$2"); do deafen "$node" "$2"; done
        sleep $hold
        heal_network
        ;;
    leader-deaf)
        for node in $(others "$2"); do deafen "$2" "$node"; done
        sleep $hold
        heal_network
        ;;
    follower-isolated)
        for node in $(others "$3"); do deafen "$3" "$node" && deafen "$node" "$3"; done
        sleep $hold
        heal_network
        ;;
    all-killed)
        crash $(seq "$nodes")
        for node in $(seq "$nodes"); do start "$node"; done
        ;;
    follower-killed) crash "$3" && sleep $hold && start "$3" ;;
    leader-and-follower-parted)
        deafen "$2" "$3" && deafen "$3" "$2"
        sleep $hold
        heal_network
        ;;
    follower-paused)
        kill -STOP "${pids[$3]}"
        sleep $hold
        kill -CONT "${pids[$3]}"
        ;;
    esac
}
addresses=$(seq -f "$subnet.%g:7001" -s, "$nodes")
echo "chaos: $nodes nodes, acks $acks, $seconds s"
# The history of a run that went wrong is left beside the logs.
TMPDIR=$directory ip netns exec "${name}c" "$TREFOIL" check --addr "$addresses" --prefix user: --clients 12 \
    --seconds "$seconds" >"$directory/check.txt" 2>&1 </dev/null 8>&- &
check=$!

SECONDS=0
round=0
while true; do
    sleep $settle
    led=$(wait_for_leader)
    [ $((SECONDS + hold)) -lt "$seconds" ] || break
    follower=$(others "$led" | sed -n "$((round % (nodes - 1) + 1))p")
    what=${faults[$((round % ${#faults[@]}))]}
    case "$what" in
    all-*) echo "$SECONDS s: $what" ;;
    leader-and-*) echo "$SECONDS s: $what (n$led, n$follower)" ;;
    leader-*) echo "$SECONDS s: $what (n$led)" ;;
    *) echo "$SECONDS s: $what (n$follower)" ;;
    esac
    fault "$what" "$led" "$follower"
    round=$((round + 1))
done

code=0
wait "$check" || code=$?
check=
echo
cat "$directory/check.txt"
for node in $(seq "$nodes"); do
    if ! kill -0 "${pids[$node]}" 2>/dev/null; then
        echo "n$node has ended by itself:" >&2
        tail -n 20 "$directory/n$node.log" >&2
        code=1
    fi
done
exit "$code"
