// SPDX-License-Identifier: GPL-2.0

//! Builds tables of whole guests, and makes the report of that and of what callgrind
//! and criterion left behind. `scripts/bench` runs all of it.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use gvahint_bench::child::{self, Built, Who};
use gvahint_bench::guest::{Guest, Mapping, Walk};
use gvahint_bench::ours::Table;
use gvahint_bench::rows::{Metric, Report, Row};
use gvahint_bench::{aims, chart, counts, ratios};
use std::fs;
use std::path::PathBuf;

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build one table and say what it took, as JSON
    Build {
        /// Whose
        #[arg(long)]
        who: Who,
        /// The guest's memory, a power of two
        #[arg(long)]
        gib: u64,
        /// How it maps it
        #[arg(long, default_value = "pages")]
        mapping: Mapping,
        /// In which order it reports it
        #[arg(long, default_value = "in-order")]
        walk: Walk,
    },
    /// Build tables in children, and write report.json and bench.svg
    Report {
        /// Where gungraun left its summaries
        #[arg(long)]
        counts: PathBuf,
        /// Where criterion left its estimates
        #[arg(long)]
        times: PathBuf,
        /// Where to write
        #[arg(long)]
        out: PathBuf,
        /// Without the guest of 1 TiB
        #[arg(long)]
        quick: bool,
    },
}

/// Times that a table is built from scattered reports, and of how many GiB: a sorted
/// tree takes long for that.
const REPEATS: usize = 3;
const SCATTERED_GIB: u64 = 16;
const PEERS: [Who; 3] = [Who::Btreemap, Who::Radix, Who::Hashbrown];

fn main() -> Result<()> {
    match Args::parse().command {
        Command::Build {
            who,
            gib,
            mapping,
            walk,
        } => {
            let guest = Guest {
                mapping,
                walk,
                ..Guest::gib(gib)
            };
            let built = child::build(who, &guest)?;
            println!("{}", serde_json::to_string(&built)?);
        }
        Command::Report {
            counts: counted,
            times,
            out,
            quick,
        } => {
            let mut rows = counts::rows(&counted)?;
            rows.extend(ratios::rows(&times)?);
            rows.extend(memory()?);
            rows.extend(scattered()?);
            rows.extend(in_order("64gib", 64)?);
            if !quick {
                rows.extend(in_order("1tib", 1024)?);
            }
            let report = Report { schema: 1, rows };
            fs::create_dir_all(&out)?;
            let json = serde_json::to_string_pretty(&report)?;
            fs::write(out.join("report.json"), json + "\n").context("report.json")?;
            chart::draw(&report, &out.join("bench.svg"))?;
            print(&report);
        }
    }
    Ok(())
}

/// What only our table has: large pages, and a way back.
fn memory() -> Result<Vec<Row>> {
    let empty = Table::new(1 << 28).bytes();
    let mut rows = vec![Row::new(
        "bytes_empty_guest",
        Metric::Bytes,
        empty as f64,
        1,
    )];
    for (name, mapping) in [
        ("bytes_per_page_in_2m_pages", Mapping::Large),
        ("bytes_per_page_in_2m_runs", Mapping::Runs),
    ] {
        let guest = Guest {
            mapping,
            ..Guest::gib(64)
        };
        let built = child::spawn(Who::Gvahint, &guest)?;
        rows.extend(per_hint(name, built.held, &built));
    }
    Ok(rows)
}

fn per_hint(name: &str, bytes: Option<u64>, built: &Built) -> Option<Row> {
    let bytes = bytes? as f64 / built.hints as f64;
    Some(Row::new(name, Metric::Bytes, bytes, built.hints))
}

/// Ours and the peers' in turn, once, by rising frame: that favours a tree that is sorted.
/// At 64 GiB criterion tells the times, of more than one.
fn in_order(size: &str, gib: u64) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let guest = Guest::gib(gib);
    let ours = run(Who::Gvahint, &guest)?;
    let once = size != "64gib";
    let counted = match once {
        true => format!("bytes_per_4k_hint_{size}"),
        false => "bytes_per_4k_hint".to_owned(),
    };
    rows.extend(per_hint(&counted, ours.held, &ours));
    let left = ours.left.context("ours is counted")? as f64;
    let name = format!("bytes_after_removal_{size}");
    rows.push(Row::new(&name, Metric::Bytes, left, ours.hints));
    let rss = per_hint(&format!("rss_per_hint_{size}"), Some(ours.peak), &ours);
    for who in PEERS {
        let theirs = match run(who, &guest) {
            Ok(theirs) => theirs,
            Err(why) => {
                println!("skipped: {} at {gib} GiB: {why}", who.name());
                continue;
            }
        };
        let bytes = theirs.peak as f64 / theirs.hints as f64;
        rows.extend(rss.as_ref().map(|rss| rss.beside(who.name(), bytes)));
        if once {
            let ratio = ours.ns as f64 / theirs.ns as f64;
            let row = Row::new(&format!("table_build_{size}"), Metric::NsRatio, ratio, 1);
            rows.push(row.beside(who.name(), 1.0));
        }
    }
    Ok(rows)
}

/// By frames of which no two in a row are near each other: that favours a hash table.
fn scattered() -> Result<Vec<Row>> {
    let guest = Guest {
        walk: Walk::Scattered,
        ..Guest::gib(SCATTERED_GIB)
    };
    let mut found = vec![Vec::new(); PEERS.len()];
    for _ in 0..REPEATS {
        let ours = run(Who::Gvahint, &guest)?.ns as f64;
        for (who, found) in PEERS.iter().zip(&mut found) {
            found.push(ours / run(*who, &guest)?.ns as f64);
        }
    }
    let name = format!("table_build_{SCATTERED_GIB}gib_scattered");
    let rows = PEERS.iter().zip(found).map(|(who, mut ratios)| {
        ratios.sort_by(f64::total_cmp);
        let median = ratios[ratios.len() / 2];
        Row::new(&name, Metric::NsRatio, median, REPEATS as u64).beside(who.name(), 1.0)
    });
    Ok(rows.collect())
}

fn run(who: Who, guest: &Guest) -> Result<Built> {
    eprintln!(
        "    {} for {} GiB, {:?}",
        who.name(),
        guest.pages >> 18,
        guest.walk
    );
    child::spawn(who, guest)
}

fn print(report: &Report) {
    println!(
        "{:30} {:>12} {:>12} {:>12}  peer",
        "", "metric", "ours", "peer's"
    );
    for row in &report.rows {
        let metric = format!("{:?}", row.metric).to_lowercase();
        let peer_value = row
            .peer_value
            .map_or_else(String::new, |value| format!("{value:.3}"));
        let peer = row.peer.as_deref().unwrap_or_default();
        println!(
            "{:30} {metric:>12} {:>12.3} {peer_value:>12}  {peer}",
            row.name, row.value
        );
    }
    println!();
    for verdict in aims::all(report) {
        let met = match verdict.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        };
        println!("{met:12} {}: {}", verdict.aim, verdict.found);
    }
}
