#!/usr/bin/env bash
# Compares Trefoil with redis-server, etcd and PostgreSQL on this machine: operations per second,
# latency, CPU time, system calls and memory, in turns (A B A B) so that a machine that slows down
# slows both.
#
#   scripts/compare.sh [--quick] [--rounds N] [--seconds S] [--only NAME,...] [--list]
#                      [--growth] [--json FILE] [--markdown FILE]
#
# Builds Trefoil (or takes the program $TREFOIL), and installs what the chosen rows need of Debian's
# packages. All servers run on loopback, on free ports, in a temporary directory ($TMPDIR), and end
# with the script. A full run with --growth takes about half an hour, --quick a few minutes.
# docs/comparison.md tells how to read what it prints. The program behind it is in scripts/compare/.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,13s/^# \{0,1\}//p' "$0"; }
for argument in "$@"; do
    if [ "$argument" = --help ] || [ "$argument" = -h ]; then
        usage
        exit
    fi
done

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

compare() { PYTHONPATH=scripts PYTHONDONTWRITEBYTECODE=1 python3 -m compare "$@"; }

# Whether a package is there; a program that came another way will do as well.
has() {
    case "$1" in
    redis-server) command -v redis-server >/dev/null ;;
    etcd-server) command -v etcd >/dev/null ;;
    postgresql) compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null ;;
    postgresql-client) command -v pgbench >/dev/null ;;
    linux-perf) command -v perf >/dev/null ;;
    esac
}

install() { # packages
    echo "installing $*" >&2
    local service
    if ! command -v apt-get >/dev/null ||
        ! { as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null; }; then
        echo "compare.sh: these are missing and could not be installed: $*" >&2
        return 1
    fi
    # Debian starts what it installs; these are ours for the asking, and only take CPU time.
    command -v systemctl >/dev/null || return 0
    for service in redis-server etcd postgresql; do
        case " $* " in
        *" $service "* | *" $service-server "*) as_root systemctl stop "$service" || true ;;
        esac
    done
}

command -v python3 >/dev/null || {
    echo "compare.sh: python3 is missing" >&2
    exit 1
}
case " $* " in *" --list "*) compare "$@" && exit ;; esac

# Also says what is wrong with the arguments, before anything is installed or built.
packages=$(compare --packages "$@")
missing=()
for package in $packages; do has "$package" || missing+=("$package"); done
[ ${#missing[@]} = 0 ] || install "${missing[@]}"
# Without perf the system calls are reported as not measured, and all else goes on.
has linux-perf || install linux-perf || true

build() { nice cargo build --release --locked --quiet -p trefoil "$@"; }
target=${CARGO_TARGET_DIR:-target}/release
[ -n "${TREFOIL:-}" ] || build --bin trefoil
case " $packages " in
*" etcd-server "*) [ -n "${ETCD_LOAD:-}" ] || build --example etcd_load ;;
esac
TREFOIL=$(realpath "${TREFOIL:-$target/trefoil}")
ETCD_LOAD=$(realpath -m "${ETCD_LOAD:-$target/examples/etcd_load}")
export TREFOIL ETCD_LOAD PYTHONPATH=scripts PYTHONDONTWRITEBYTECODE=1
# In place of this shell, so that signals go to the one that ends the servers.
exec python3 -m compare "$@"
