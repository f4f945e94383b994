// SPDX-License-Identifier: GPL-2.0
//! Tables of what reporting costs a guest, and of what telling of changes is good for.

use gvahint_vm::stale::Stale;
use gvahint_vm::tax::{self, Reporter, Tax};

const LEGEND: &str = "\
How to read it: instructions that the guest executed for each operation, by whatever ran in it: the
process, the kernel, its timer, the reporter's thread. `absent` is a kernel without our series, `off` has
it. The same guest then loads the reporter but has it switched off (`disabled`), switches it on (`quiet`),
and the host ages all of its memory once in a thousand million instructions (`on`). `off` is compared
with `absent`, another boot, and the last two with `disabled`. `spread` is the largest distance of a
block from the mean of its kind.";
const BOOTS_LEGEND: &str = "\
From boot to boot memory lies elsewhere. Median of some boots each, beside it the least and the most as
shares of `absent`'s median. `quiet` is compared with `disabled` of the same boot: median, least and most.";

/// Prints both tables, as far as there is something to show.
pub fn print(tax: &[Tax], reporter: &[Reporter]) {
    if !tax.is_empty() {
        println!(
            "\n{:18} {:>6} {:>12} {:>20} {:>12} {:>20} {:>20} {:>8}",
            "guest tax", "count", "absent", "off", "disabled", "quiet", "on", "spread"
        );
    }
    for row in tax {
        println!(
            "{:18} {:>6} {:>12} {:>20} {:>12} {:>20} {:>20} {:>7.3}%",
            row.operation,
            row.count,
            cell(row.absent, None),
            cell(row.off, row.absent),
            cell(row.disabled, None),
            cell(row.quiet, row.disabled),
            cell(row.on, row.disabled),
            100.0 * row.spread
        );
    }
    if !tax.is_empty() {
        println!("\n{LEGEND}");
    }
    print_boots(tax);
    for row in reporter {
        println!(
            "\nreporter in a guest of {} MiB, {} MiB mapped: all looked at after {} ms ({} of {} pages \
             reported), {:.1} million instructions a GiB;\n  then {} instructions a second ({} without \
             it); {:.0} for each of {} pages that the host asked for",
            row.memory_mib,
            row.mapped_mib,
            row.sweep_ms,
            row.reported,
            row.swept,
            row.sweep_instructions_per_gib as f64 / 1e6,
            row.steady_instructions_per_s,
            row.idle_instructions_per_s,
            row.instructions_per_asked,
            row.asked
        );
    }
}

/// Prints what a kernel with our series costs over one without, and the reporter, over some boots of each.
fn print_boots(tax: &[Tax]) {
    let ranges = |row: &Tax| {
        let quiet = tax::range(&row.reporting_boots)?;
        Some((
            tax::range(&row.absent_boots)?,
            tax::range(&row.off_boots)?,
            quiet,
        ))
    };
    let rows: Vec<_> = tax
        .iter()
        .filter_map(|row| Some((row, ranges(row)?)))
        .collect();
    if rows.is_empty() {
        return;
    }
    println!(
        "\n{:18} {:>6} {:>30} {:>30} {:>30}",
        "guest tax, boots", "boots", "absent", "off", "quiet, more than disabled"
    );
    for (row, (absent, off, quiet)) in rows {
        let cell = |[least, median, most]: [f64; 3]| {
            let share = |n: f64| 100.0 * (n / absent[1] - 1.0);
            format!("{median:.1} ({:+.2} .. {:+.2}%)", share(least), share(most))
        };
        let [least, median, most] = quiet.map(|share| 100.0 * share);
        println!(
            "{:18} {:>6} {:>30} {:>30} {:>30}",
            row.operation,
            row.off_boots.len(),
            cell(absent),
            cell(off),
            format!("{median:+.2}% ({least:+.2} .. {most:+.2}%)")
        );
    }
    println!("\n{BOOTS_LEGEND}");
}

/// Prints how many pages were falsely idle after a change of their addresses.
pub fn print_stale(stale: &[Stale]) {
    if !stale.is_empty() {
        println!(
            "\n{:10} {:16} {:>12} {:>8} {:>11} {:>12}",
            "change", "kernel tells", "aged after", "touched", "false idle", "none after"
        );
    }
    for row in stale {
        let end = match row.stale_ms {
            Some(ms) => format!("{ms} ms"),
            None => format!("> {} ms", row.limit_ms),
        };
        println!(
            "{:10} {:16} {:>9} ms {:>8} {:>11} {:>12}",
            row.change,
            if row.notified { "yes" } else { "no" },
            row.wait_ms,
            row.touched,
            row.false_idle,
            end
        );
    }
}

/// A value, and by how much it is more than another.
fn cell(value: Option<f64>, than: Option<f64>) -> String {
    match (value, tax::more(value, than)) {
        (Some(n), Some(more)) => format!("{n:.1} ({:+.2}%)", 100.0 * more),
        (Some(n), None) => format!("{n:.1}"),
        (None, _) => "-".to_owned(),
    }
}
