# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Counting test results.  Sourced by scripts/test.

passed=0 failed=0 skipped=0

fail() {
	failed=$((failed + 1))
	say "not ok - $1"
}

# What a kernel must not say while tests run.
complaints='WARNING:|BUG:|Oops|general protection|unable to handle|possible circular|soft lockup|hung_task|blocked for more than|RCU detected|rcu:.*stall|Call Trace|refcount_t|Kernel panic'

# count_tap FILE NAME: one TAP stream; every line is a test
count_tap() {
	local file=$1 name=$2 line plan='' seen=0
	while IFS= read -r line; do
		case $line in
		'ok '*'# SKIP'*)
			skipped=$((skipped + 1)) seen=$((seen + 1))
			say "skip - $name: ${line#ok }"
			;;
		'ok '*) passed=$((passed + 1)) seen=$((seen + 1)) ;;
		'not ok '*)
			seen=$((seen + 1))
			fail "$name: ${line#not ok }"
			;;
		1..*) plan=${line#1..} ;;
		esac
	done <"$file"
	[[ $plan =~ ^[0-9]+ ]] && plan=${BASH_REMATCH[0]} || plan=''
	if [ -z "$plan" ] || [ "$seen" -ne "$plan" ]; then
		fail "$name: ran $seen of ${plan:-an unknown number of} tests (output: $file)"
	fi
}

# count_machine NAME DIR: the TAP of one machine, its exit and its kernel's log
count_machine() {
	local name=$1 dir=$2 rc log
	rc=$(cat "$dir/$name.rc" 2>/dev/null || echo 125)
	local before=$failed
	count_tap "$dir/$name.tap" "$name"
	# a non-zero exit is a failure of its own only if no test accounts for it
	if [ "$rc" -ne 0 ] && [ $failed -eq $before ]; then
		fail "$name: exit $rc: $(tail -n 2 "$dir/$name.err" | tr '\n' ' ')"
	fi
	# of mutants that is what is asked for
	case $name in mutants | mm-mutants) return ;; esac
	while IFS= read -r log; do
		fail "$name: the kernel complained: $(grep -E "$complaints" "$log" | head -n 1 | tr -d '\r') ($log)"
	done < <(find "$dir/$name" -name console.log -exec grep -lE "$complaints" {} + 2>/dev/null | sort)
}

# count_command NAME COMMAND...: a command that prints TAP, run here
count_command() {
	local name=$1 rc=0
	shift
	say "==> $name"
	"$@" >"$BUILD/test/$name.tap" 2>"$BUILD/test/$name.err" || rc=$?
	echo $rc >"$BUILD/test/$name.rc"
	count_machine "$name" "$BUILD/test"
}

# count_cargo LOG: what cargo test printed
count_cargo() {
	local p f
	p=$(sed -n 's/^test result:.* \([0-9]*\) passed;.*/\1/p' "$1" | paste -sd+ | bc)
	f=$(sed -n 's/^test result:.* \([0-9]*\) failed;.*/\1/p' "$1" | paste -sd+ | bc)
	[ -n "$p" ] || return 1
	passed=$((passed + p)) failed=$((failed + f))
}

summary() {
	local tail=''
	[ $skipped -eq 0 ] || tail=", $skipped skipped"
	printf '%s passed, %s failed%s\n' $passed $failed "$tail"
	[ $failed -eq 0 ] && [ $passed -gt 0 ]
}
