#!/usr/bin/env bash
# Compares one Trefoil node with redis-server in the same run: SET and GET, with and without
# pipelining, in turns (A B A B) so that a machine that slows down slows both.
#
#   scripts/bench.sh [--requests N] [--rounds N] [--clients N]
#
# Prints operations per second, the ratio to redis, and the server's own CPU time per operation
# (user + system, from the operating system). Needs redis-server and redis-benchmark (Debian:
# redis-server, redis-tools). Everything is on loopback, on free ports, and ends with the script.
set -euo pipefail
cd "$(dirname "$0")/.."

requests=200000 rounds=2 clients=50
while [ $# -gt 0 ]; do
    case "$1" in
    --requests) requests=$2 ;;
    --rounds) rounds=$2 ;;
    --clients) clients=$2 ;;
    *)
        sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
    esac
    shift 2
done

for program in redis-server redis-benchmark redis-cli python3; do
    command -v "$program" >/dev/null || {
        echo "$program is missing (Debian: redis-server, redis-tools, python3)" >&2
        exit 1
    }
done

cargo build --release --quiet -p trefoil
trefoil=${CARGO_TARGET_DIR:-target}/release/trefoil
directory=$(mktemp -d)
pids=()

finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$directory"
}
trap finish EXIT
trap 'exit 130' INT TERM

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# The CPU time of a process in clock ticks, user and system, all its threads.
cpu_ticks() { sed 's/^.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'; }
ticks_per_second=$(getconf CLK_TCK)

wait_for() {
    for _ in $(seq 600); do
        [ "$(redis-cli -p "$1" SET warm up 2>/dev/null || true)" = OK ] && return
        sleep 0.05
    done
    echo "the server on port $1 does not answer; its log:" >&2
    tail -n 20 "$directory"/*.log >&2
    exit 1
}

start_trefoil() { # durability; sets port and pid
    local peer
    port=$(free_port) peer=$(free_port)
    cat >"$directory/$1.toml" <<CONFIG
[cluster]
name = "bench"
secret = "0123456789abcdef"
[[node]]
name = "one"
datacenter = "here"
client = "127.0.0.1:$port"
peer = "127.0.0.1:$peer"
[server]
node = "one"
data = "$directory/trefoil-$1"
[[keyspace]]
prefix = ""
model = "leader-follower"
durability = "$1"
CONFIG
    "$trefoil" serve --config "$directory/$1.toml" >"$directory/trefoil-$1.log" 2>&1 </dev/null &
    pid=$!
    pids+=("$pid")
    wait_for "$port"
}

start_redis() { # appendfsync; sets port and pid
    port=$(free_port)
    mkdir "$directory/redis-$1"
    redis-server --port "$port" --bind 127.0.0.1 --dir "$directory/redis-$1" --appendonly yes \
        --appendfsync "$1" --save '' --daemonize no >"$directory/redis-$1.log" 2>&1 </dev/null &
    pid=$!
    pids+=("$pid")
    wait_for "$port"
}

# One run of redis-benchmark; prints "operations-per-second cpu-microseconds-per-operation".
measure() { # port pid test pipeline requests
    local before after line
    before=$(cpu_ticks "$2")
    line=$(redis-benchmark -h 127.0.0.1 -p "$1" -t "$3" -P "$4" -n "$5" -c "$clients" -r 100000 \
        -d 100 --csv </dev/null 2>/dev/null | awk -F'"' -v name="$3" 'tolower($2) == name { print $4 }')
    after=$(cpu_ticks "$2")
    awk -v rate="$line" -v ticks=$((after - before)) -v hz="$ticks_per_second" -v n="$5" \
        'BEGIN { if (rate + 0 <= 0) exit 1; printf "%.0f %.2f\n", rate, ticks / hz * 1e6 / n }'
}

average() { awk -v column="$1" '{ sum += $column } END { printf "%.2f", sum / NR }' "$2"; }

compare() { # durability, appendfsync, requests, tests
    local trefoil_port trefoil_pid redis_port redis_pid
    start_trefoil "$1" && trefoil_port=$port trefoil_pid=$pid
    start_redis "$2" && redis_port=$port redis_pid=$pid
    printf '\nTrefoil durability = "%s", redis appendfsync %s; %d clients, 100 bytes, %d rounds\n' \
        "$1" "$2" "$clients" "$rounds"
    printf '%-5s %4s %13s %13s %7s %13s %13s %7s\n' test P 'trefoil op/s' 'redis op/s' ratio \
        'trefoil us/op' 'redis us/op' ratio
    for pipeline in 1 16; do
        for test in $4; do
            local a="$directory/a" b="$directory/b"
            : >"$a" && : >"$b"
            for _ in $(seq "$rounds"); do
                measure "$trefoil_port" "$trefoil_pid" $test $pipeline "$3" >>"$a"
                measure "$redis_port" "$redis_pid" $test $pipeline "$3" >>"$b"
            done
            printf '%s %s %s %s\n' "$(average 1 "$a")" "$(average 1 "$b")" "$(average 2 "$a")" \
                "$(average 2 "$b")" | awk -v test=$test -v p=$pipeline \
                '{ printf "%-5s %4d %13.0f %13.0f %7.2f %13.2f %13.2f %7.2f\n",
                   toupper(test), p, $1, $2, $1 / $2, $3, $4, ($4 > 0 ? $3 / $4 : 0) }'
        done
    done
}

compare interval-1s everysec "$requests" "set get"
# A sync for each group of writes: fewer requests say enough, and reads do not wait for a disk.
compare fsync always $((requests / 4)) set
