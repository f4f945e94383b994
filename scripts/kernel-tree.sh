# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Source trees of the kernel: where the source comes from, which state of the
# series a tree is in, and how to get it into another one without touching files
# that stay the same (their objects stay valid).  Sourced by scripts/kernel.

TARBALL=${LINUX_TARBALL:-/usr/src/linux-source-6.12.tar.xz}
PREFIX=linux-source-6.12
# what the series was tested on; older 6.12.y lack EXPORT_SYMBOL_GPL_FOR_MODULES
FLOOR=6.12.117

# sets VERSION and SOURCE_ID
find_source() {
	local id stamp
	[ -r "$TARBALL" ] || die "there is no $TARBALL: run scripts/setup (Debian package linux-source-6.12)"
	id=$(stat -Lc '%s-%Y' "$TARBALL")
	stamp=$KERNELS/version-$id
	if [ ! -s "$stamp" ]; then
		tar --occurrence=1 -xJOf "$TARBALL" $PREFIX/Makefile |
			awk -F' *= *' '/^(VERSION|PATCHLEVEL|SUBLEVEL) /{v = v sep $2; sep = "."} END {print v}' >"$stamp.new.$$" ||
			die "cannot read $TARBALL: apt-get install --reinstall linux-source-6.12"
		mv "$stamp.new.$$" "$stamp"
	fi
	VERSION=$(cat "$stamp")
	[[ $VERSION == 6.12.* ]] || die "$TARBALL holds Linux ${VERSION:-of no known version}; this needs 6.12.y from $FLOOR on"
	if ((${VERSION##*.} < ${FLOOR##*.})); then
		die "$TARBALL holds Linux $VERSION; the series needs $FLOOR or a later 6.12.y: apt-get update, then apt-get install linux-source-6.12"
	fi
	# shellcheck disable=SC2034 # for scripts/kernel
	SOURCE_ID=$VERSION-$id
	PRISTINE=$KERNELS/pristine-$id
}

series_patches() {
	local p
	while read -r p; do
		[[ -z $p || $p == \#* ]] || printf '%s/%s\n' "$1" "$p"
	done <"$1/series"
}

# files that patches change, and those of them that the pristine source has
touched() { sed -nE 's/^(---|\+\+\+) [ab]\/([^\t]*).*/\2/p' "$@" | sort -u; }
touched_pristine() {
	awk '/^--- /{old = $2} /^\+\+\+ /{f = substr($2, 3)
		if (old == "/dev/null") made[f] = 1; else if (!(f in made) && old != "/dev/null") print substr(old, 3)}' "$@" | sort -u
}

# The few files that the series touches are kept unpatched beside the trees:
# unpacking the whole source takes longer than everything else here.
need_pristine() {
	local f missing=()
	for f; do [ -e "$PRISTINE/$f" ] || missing+=("$f"); done
	[ ${#missing[@]} -gt 0 ] || return 0
	local new=$PRISTINE.new.$BASHPID
	mkdir -p "$new" "$PRISTINE"
	tar -xf "$TARBALL" -I 'xz -T0' -C "$new" --strip-components=1 "${missing[@]/#/$PREFIX/}" || {
		rm -rf "$new"
		echo "Linux $VERSION does not have all of: ${missing[*]}"
		return 1
	}
	cp -a "$new/." "$PRISTINE/"
	rm -rf "$new"
}

# apply DIR PATCH...: says which patch and hunk if one does not apply
apply() {
	local dir=$1 p out
	shift
	for p; do
		out=$(patch -d "$dir" -p1 -f --no-backup-if-mismatch -r - <"$p" 2>&1) || {
			echo "Linux $VERSION: $(basename "$p") does not apply:"
			awk '/^patching file /{f = $3; next} /^Hunk .* succeeded/{next} /^Hunk/{print "  " f ": " $0; next} {print "  " $0}' <<<"$out"
			return 1
		}
	done
}

# set_patches TREE PATCH...: put the tree into the state after these patches, or none
set_patches() {
	local tree=$1 scratch f files mine rc=0
	shift
	mapfile -t mine < <({ touched_pristine "$@"; cat "$tree/.gvahint/pristine" 2>/dev/null; } | sort -u)
	mapfile -t files < <({ touched "$@"; cat "$tree/.gvahint/touched" 2>/dev/null; } | grep -v '^dev/null$' | sort -u)
	need_pristine "${mine[@]}" || return 1
	scratch=$(mktemp -d "${TMPDIR:-/tmp}/gvahint-series.XXXXXX")
	(cd "$PRISTINE" && cp --parents "${mine[@]}" "$scratch/") && apply "$scratch" "$@" || rc=1
	mkdir -p "$tree/.gvahint"
	if [ $rc -eq 0 ]; then
		printf '%s\n' "${files[@]}" >"$tree/.gvahint/touched"
		printf '%s\n' "${mine[@]}" >"$tree/.gvahint/pristine"
		for f in "${files[@]}"; do
			if [ ! -e "$scratch/$f" ]; then
				rm -f "$tree/$f"
			elif ! cmp -s "$scratch/$f" "$tree/$f"; then
				install -D -m 644 "$scratch/$f" "$tree/$f" || rc=1
			fi
		done
	fi
	rm -rf "$scratch"
	return $rc
}

check_series() {
	local scratch
	scratch=$(mktemp -d "${TMPDIR:-/tmp}/gvahint-series.XXXXXX")
	# shellcheck disable=SC2064 # the directory of now
	trap "rm -rf '$scratch'" EXIT
	set_patches "$scratch" "${PATCHES[@]}" >&2 || die "the series does not apply to Linux $VERSION; $SERIES_REMEDY"
	say "all ${#PATCHES[@]} patches apply to Linux $VERSION"
}

# What neither this configuration nor a module of ours reads stays in the
# tarball.  Kconfig files and Makefiles are read whatever is configured.
unpack_tree() {
	local d excludes=() mine
	for d in 'arch/[!xK]*' arch/xtensa sound \
		drivers/{accel,clk,gpu,iio,infiniband,media,'net/*',pinctrl,scsi,staging}; do
		excludes+=(--exclude="$PREFIX/$d/*.[chS]" --exclude="$PREFIX/$d/*.dts*")
	done
	for d in 'Documentation/[!Kv]*/*' tools/perf tools/testing; do
		excludes+=(--exclude="$PREFIX/$d")
	done
	mkdir -p "$1" "$PRISTINE"
	tar -xf "$TARBALL" -I 'xz -T0' -C "$1" --strip-components=1 "${excludes[@]}" || return 1
	mapfile -t mine < <(touched_pristine "${PATCHES[@]}")
	(cd "$1" && cp -a --parents "${mine[@]}" "$PRISTINE/")
}

# clone_tree FROM TO: with the objects, which name the directory they are built in
clone_tree() {
	cp -a --reflink=auto "$1" "$2" &&
		rm -f "$2/.gvahint/done" &&
		{ grep -rlF --include='.*.cmd' -e "$1" "$2" || true; } | xargs -r -d '\n' sed -i "s#$1#$2#g"
}

# what nobody asked for in two weeks makes room
prune() {
	local old
	find "$KERNELS" -mindepth 2 -maxdepth 3 -path '*/.gvahint/done' -mtime +14 -printf '%h\n' | while read -r old; do
		rm -rf "${old%/.gvahint}"
	done
	find "$KERNELS" -maxdepth 1 \( -name 'mutant-*' -o -name 'unpatched-*' -o -name 'image-*' \) -mtime +14 -exec rm -rf {} +
}
