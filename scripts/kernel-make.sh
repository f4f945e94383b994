# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Building kernels: one toolchain for all of them, make, and fragments of
# configurations.  Sourced by scripts/kernel and scripts/kernel-image.

BINDGEN_VERSION=0.72.1

# bindgen is Rust's, not Debian 12's; one for the kernel and every module
bindgen_path() { printf '%s/bindgen/%s/bin/bindgen\n' "$(cache_root)" $BINDGEN_VERSION; }

install_bindgen() {
	local dir
	dir=$(cache_root)/bindgen
	rm -rf "$dir/new"
	mkdir -p "$dir"
	# it runs for seconds, and is waited for: little optimization is enough
	env -u CARGO_TARGET_DIR CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
		/usr/bin/cargo install --locked bindgen-cli --version $BINDGEN_VERSION --root "$dir/new" &&
		rm -rf "${dir:?}/$BINDGEN_VERSION" && mv "$dir/new" "$dir/$BINDGEN_VERSION"
}

bindgen_locked() {
	[ -x "$(bindgen_path)" ] ||
		REMEDY="/usr/bin/cargo must reach its registry: check the network, then run the same command again" \
			step "install bindgen $BINDGEN_VERSION" install_bindgen
}
ensure_bindgen() { [ -x "$(bindgen_path)" ] || with_lock bindgen bindgen_locked; }

check_tools() {
	local t
	for t in clang-19:clang-19 ld.lld-19:lld-19 llvm-objcopy-19:llvm-19 make:make flex:flex bison:bison \
		bc:bc lz4:lz4 xz:xz-utils patch:patch perl:perl depmod:kmod; do
		need "${t%%:*}" "${t#*:}"
	done
	[ -x /usr/bin/rustc ] || die "/usr/bin/rustc is missing: run scripts/setup (Debian package rustc-web or rustc)"
}

toolchain() {
	/usr/bin/rustc --version
	clang-19 --version | head -n 1
	echo "bindgen $BINDGEN_VERSION"
}

# what all make calls share: one toolchain, and nothing of who built it when and where
kmake() {
	local dir=$1
	shift
	env -u CARGO_TARGET_DIR LIBCLANG_PATH=/usr/lib/llvm-19/lib \
		make -C "$dir" -j"$(nproc)" LLVM=-19 RUSTC=/usr/bin/rustc HOSTRUSTC=/usr/bin/rustc \
		BINDGEN="$(bindgen_path)" LOCALVERSION= KBUILD_BUILD_TIMESTAMP=@0 KBUILD_BUILD_USER=gvahint \
		KBUILD_BUILD_HOST=gvahint KBUILD_BUILD_VERSION=1 "$@"
}

# lost_symbols FRAGMENT CONFIG: lines that do not hold; an absent symbol is off
lost_symbols() {
	grep -E '^CONFIG_' "$1" | grep -vxFf "$2" || true
	sed -n 's/^# \(CONFIG_[A-Z0-9_]*\) is not set$/\1/p' "$1" | while read -r s; do
		! grep -q "^$s=" "$2" || echo "# $s is not set"
	done
}

# survived FRAGMENT CONFIG: fails if a line of the fragment does not hold, and says which
survived() {
	local lost
	lost=$(lost_symbols "$1" "$2")
	[ -z "$lost" ] || {
		echo "these lines of ${1#"$TOP/"} did not survive; a dependency is missing or the symbol is gone:"
		echo "$lost"
		return 1
	}
}

# overlay FRAGMENT OVER: the fragment with the lines of OVER in place of those of the same symbols
overlay() {
	local merged
	merged=$KERNELS/config-$(key "$@")
	{
		grep -vE "^(# )?($(sed -nE 's/^(# )?(CONFIG_[A-Z0-9_]+)[ =].*/\2/p' "$2" | paste -sd '|'))[ =]" "$1"
		cat "$2"
	} >"$merged.$$"
	mv "$merged.$$" "$merged"
	printf '%s\n' "$merged"
}
