# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What the scripts share: messages, steps with a log each, the cache outside the
# clone, locks.  Sourced, never run.  Results go to stdout, talk goes to stderr.

# shellcheck disable=SC2034 # used by those who source this
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$TOP/build
LOGS=$BUILD/logs
# Debian's own toolchain: the kernel, its module and the tools share one rustc.
PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH
export PATH CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$BUILD/cargo} LC_ALL=C
export CARGO_TERM_PROGRESS_WHEN=never

# Static programs, because neither machine nor guest has libraries, nor has each host the
# same; naming the target keeps the flag off proc macros.
STATIC_TARGET=x86_64-unknown-linux-gnu
STATIC=$CARGO_TARGET_DIR/$STATIC_TARGET/release
# build_static WORKSPACE OPTIONS...: into $STATIC
build_static() {
	RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --release --target $STATIC_TARGET \
		--manifest-path "$TOP/$1/Cargo.toml" "${@:2}"
}

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# need TOOL PACKAGE: stop with the remedy if a tool is missing
need() { command -v "$1" >/dev/null || die "$1 is missing: run scripts/setup (Debian package $2)"; }

cache_root() {
	local dir=${GVAHINT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gvahint}
	mkdir -p "$dir" || die "cannot create the cache $dir: set GVAHINT_CACHE to a writable place"
	printf '%s\n' "$dir"
}

# key STRING|FILE...: 16 hex digits that depend on every argument; a file counts by its content
key() {
	local a
	for a in "$@"; do
		if [ -f "$a" ]; then sha256sum <"$a"; else printf '%s\n' "$a"; fi
	done | sha256sum | cut -c1-16
}

# with_lock NAME CMD...: one at a time over all clones and users of the cache
with_lock() {
	local lock
	lock=$(cache_root)/$1.lock
	shift
	(
		exec 9>"$lock"
		if ! flock -n 9; then
			say "  waiting for another run that holds $lock"
			flock 9
		fi
		"$@" 9>&-
	)
}

# step NAME CMD...: run with its output in a log, show progress, and on failure
# name the step, the log and its end.  $REMEDY, if set, is shown as well.
# (A function called by `if step ...` runs without set -e: chain its commands.)
step() {
	local name=$1 log start rc=0 last pid
	shift
	mkdir -p "$LOGS"
	log=$LOGS/$(tr -c 'a-zA-Z0-9.\n' - <<<"$name").log
	start=$SECONDS
	say "==> $name"
	# a process group of its own: an interrupt ends the make below a function, too
	set -m
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	set +m
	# shellcheck disable=SC2064 # the pid of now
	trap "kill -- -$pid 2>/dev/null; say 'interrupted: $name (log: $log)'; exit 130" INT TERM
	while kill -0 $pid 2>/dev/null; do
		sleep 0.2
		if (((SECONDS - start) % 20 == 19)); then
			last=$(tail -n 1 "$log" | tr -d '\r' | cut -c1-90)
			say "    $name, $((SECONDS - start)) s: $last"
			sleep 1
		fi
	done
	wait $pid || rc=$?
	trap - INT TERM
	if [ $rc -ne 0 ]; then
		say "FAILED: $name (exit $rc after $((SECONDS - start)) s)"
		say "  log: $log; its end:"
		tail -n 15 "$log" | sed 's/^/  | /' >&2
		[ -z "${REMEDY:-}" ] || say "  remedy: $REMEDY"
		return $rc
	fi
	if ((SECONDS - start > 1)); then say "    $name: done in $((SECONDS - start)) s"; fi
	return 0
}
