// SPDX-License-Identifier: GPL-2.0
//! The demo's hot set: what ageing a sixteenth of it costs under each policy, and whether the ages are right.

use crate::chart;
use anyhow::{ensure, Result};
use gvahint_vm::row::Row;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

/// The guests, by scenario, and what they are called.
const GUESTS: [(&str, &str); 2] = [
    ("hotset/4096/sixteenth", "a guest that never exits"),
    (
        "hotset-exits/4096/sixteenth",
        "a guest that exits at every sweep",
    ),
];
type Cell = fn(&Row) -> String;
/// The columns: where they end, their titles, what they say of a row.
const COLUMNS: [(i32, &str, Cell); 8] = [
    (215, "aged", |row| grouped(row.aged)),
    (310, "falsely idle", |row| {
        format!("{:.0} %", 100.0 * row.false_share())
    }),
    (380, "INVEPT", |row| grouped(row.invept)),
    (500, "INVVPID gVA", |row| grouped(row.invvpid_addr)),
    (580, "context", |row| grouped(row.invvpid_context)),
    (655, "exits", |row| grouped(row.vm_exits)),
    (765, "TLB misses", |row| grouped(row.tlb_misses)),
    (868, "per page", |row| {
        format!("{:.1}", row.misses_per_clear())
    }),
];
const WRONG: usize = 1;
const MARGIN: i32 = 12;
const WIDTH: i32 = 868 + MARGIN;
const HEIGHT: i32 = 22;
/// plotters divides it by 1.24.
const FONT: f64 = 16.12;
const ALARM: RGBColor = RGBColor(0xc0, 0x1c, 0x28);
const SHADE: RGBColor = RGBColor(0xee, 0xee, 0xee);

/// One guest: what it is called, and its rows.
pub type Part = (&'static str, Vec<Row>);

/// Each guest of a report under each of the policies, where single addresses suffice.
pub fn parts(report: &str) -> Result<Vec<Part>> {
    let rows = chart::rows(report)?;
    let mut parts = Vec::new();
    for (scenario, name) in GUESTS {
        let shown = |row: &&Row| {
            row.scenario == scenario
                && row.profile == "combined-only"
                && row.uncovered == "full"
                && row.flush != "default"
        };
        let rows: Vec<Row> = rows.iter().filter(shown).cloned().collect();
        ensure!(!rows.is_empty(), "the report has no rows of {scenario}");
        parts.push((name, rows));
    }
    Ok(parts)
}

/// Draws a line for each row.
pub fn draw(parts: &[Part], path: &Path) -> Result<()> {
    let lines: usize = parts.iter().map(|(_, rows)| 1 + rows.len()).sum();
    let size = (WIDTH, (lines as i32 + 1) * HEIGHT + 2 * MARGIN);
    let area = SVGBackend::new(path, (size.0 as u32, size.1 as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let middle = |line: i32| MARGIN + line * HEIGHT + HEIGHT / 2;
    let write = |text: &str, (x, line), end, colour, weight| {
        let style = ("sans-serif", FONT, weight).into_font().color(colour);
        let style = style.pos(Pos::new(end, VPos::Center));
        area.draw_text(text, &style, (x, middle(line)))
    };
    let bold = FontStyle::Bold;
    write("flush / timing", (MARGIN, 0), HPos::Left, &BLACK, bold)?;
    for (x, title, _) in COLUMNS {
        write(title, (x, 0), HPos::Right, &BLACK, bold)?;
    }
    let mut line = 1;
    for (name, rows) in parts {
        let y = MARGIN + line * HEIGHT;
        let band = [(0, y), (WIDTH, y + HEIGHT)];
        area.draw(&Rectangle::new(band, SHADE.filled()))?;
        write(name, (MARGIN, line), HPos::Left, &BLACK, bold)?;
        for row in rows {
            line += 1;
            let (x, y) = (MARGIN, middle(line));
            let mark = [(x, y - 6), (x + 12, y + 6)];
            let colour = chart::colour(&row.flush);
            area.draw(&Rectangle::new(mark, colour.filled()))?;
            let normal = FontStyle::Normal;
            write(&policy(row), (x + 20, line), HPos::Left, &BLACK, normal)?;
            for (n, (x, _, cell)) in COLUMNS.into_iter().enumerate() {
                let (colour, weight) = match n == WRONG && row.false_idle > 0 {
                    true => (&ALARM, bold),
                    false => (&BLACK, normal),
                };
                write(&cell(row), (x, line), HPos::Right, colour, weight)?;
            }
        }
        line += 1;
    }
    area.present()?;
    Ok(())
}

fn policy(row: &Row) -> String {
    match &*row.flush {
        "none" => row.flush.clone(),
        flush => format!("{flush} / {}", row.timing),
    }
}

/// With a comma before each three digits.
fn grouped(number: u64) -> String {
    match number {
        0..=999 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1000), number % 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::{grouped, parts, policy, COLUMNS, WRONG};

    const EXITS: &str = "hotset-exits/4096/sixteenth";

    fn row(scenario: &str, profile: &str, flush: &str, uncovered: &str) -> String {
        format!(
            r#"{{"scenario":"{scenario}","profile":"{profile}","flush":"{flush}","uncovered":"{uncovered}","timing":"now","touched":8,"false_idle":2}}"#
        )
    }

    // Fails if a row of another guest, profile or policy is shown, one of these is left out, or figures are
    // not those of its row.
    #[test]
    fn rows_are_those_of_the_guests() {
        let never = "hotset/4096/sixteenth";
        let rows = [
            row(never, "combined-only", "default", "full"),
            row(never, "combined-only", "none", "full"),
            row(never, "combined-only", "hint", "full"),
            row(never, "combined-only", "hint", "none"),
            row(never, "leaf-cached", "hint", "full"),
            row("hotset/4096/all", "combined-only", "hint", "full"),
            row(EXITS, "combined-only", "invept", "full"),
        ];
        let parts = parts(&format!(r#"{{"rows":[{}]}}"#, rows.join(","))).unwrap();
        let shown: Vec<Vec<_>> = parts
            .iter()
            .map(|(_, rows)| rows.iter().map(policy).collect())
            .collect();
        assert_eq!(shown, [vec!["none", "hint / now"], vec!["invept / now"]]);
        assert_eq!(COLUMNS[WRONG].2(&parts[0].1[0]), "25 %");
    }

    // Fails if a report without one of the guests gives a picture.
    #[test]
    fn a_guest_that_is_missing_is_an_error() {
        let row = row(EXITS, "combined-only", "none", "full");
        assert!(parts(&format!(r#"{{"rows":[{row}]}}"#)).is_err());
    }

    // Fails if a digit is lost, or a comma is.
    #[test]
    fn digits_are_in_threes() {
        let seen = [0, 999, 1000, 53_007, 1_593_056].map(grouped);
        assert_eq!(seen, ["0", "999", "1,000", "53,007", "1,593,056"]);
    }
}
