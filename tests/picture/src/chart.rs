// SPDX-License-Identifier: GPL-2.0
//! The demo's Linux guests: whether ages were right under each policy, and what that cost.

use anyhow::{ensure, Context, Result};
use gvahint_vm::row::Row;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const POLICIES: [(&str, RGBColor); 3] = [
    ("none", RGBColor(0x99, 0x99, 0x99)),
    ("invept", RGBColor(0xd9, 0x5f, 0x02)),
    ("hint", RGBColor(0x1b, 0x6c, 0xa8)),
];
const OTHER: RGBColor = RGBColor(0x75, 0x70, 0xb3);
type Measure = fn(&Row) -> f64;
/// What is drawn of each run, by title.
const PANELS: [(&str, Measure); 3] = [
    ("touched pages taken for idle, %", |row| {
        100.0 * row.false_share()
    }),
    ("INVEPT for each page aged", |row| {
        row.invept as f64 / row.aged.max(1) as f64
    }),
    (
        "the guest's TLB misses for each page aged",
        Row::misses_per_clear,
    ),
];
const SIZE: (u32, u32) = (1080, 330);
const LEGEND: i32 = 40;
const FONT: (&str, i32) = ("sans-serif", 15);

/// One guest: its workload, and a row for each of the policies.
pub type Bars = Vec<(String, [Row; POLICIES.len()])>;

/// The rows of a report.
pub fn rows(report: &str) -> Result<Vec<Row>> {
    let report: serde_json::Value = serde_json::from_str(report)?;
    serde_json::from_value(report["rows"].clone()).context("rows")
}

/// A policy's, in each picture.
pub fn colour(flush: &str) -> RGBColor {
    let known = POLICIES.iter().find(|(known, _)| *known == flush);
    known.map_or(OTHER, |(_, colour)| *colour)
}

/// The guests of a report that page_idle aged under each of the policies, flushed at once, in small pages.
pub fn bars(report: &str) -> Result<Bars> {
    let rows = rows(report)?;
    let same = |row: &&Row| {
        row.ager == "page_idle"
            && row.backing == "4k"
            && row.timing == "now"
            && matches!(row.linear_alias.as_deref(), None | Some("always"))
            && row.uncovered == "full"
    };
    let rows: Vec<&Row> = rows.iter().filter(same).collect();
    let mut bars = Bars::new();
    for row in &rows {
        let Some(work) = row.scenario.strip_prefix("linux/") else {
            continue;
        };
        if work.contains('/') || bars.iter().any(|(known, _)| known == work) {
            continue;
        }
        let under = |flush| {
            let found = rows
                .iter()
                .find(|other| other.scenario == row.scenario && other.flush == flush);
            found.map(|row| (*row).clone())
        };
        if let [Some(none), Some(invept), Some(hint)] = POLICIES.map(|(flush, _)| under(flush)) {
            bars.push((work.to_owned(), [none, invept, hint]));
        }
    }
    ensure!(
        !bars.is_empty(),
        "no Linux guest was aged under all policies"
    );
    Ok(bars)
}

/// Draws a panel for each measure.
pub fn draw(bars: &Bars, path: &Path) -> Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (legend, panels) = area.split_vertically(LEGEND);
    let mut x = 30;
    for (flush, colour) in POLICIES {
        legend.draw(&Rectangle::new([(x, 14), (x + 14, 28)], colour.filled()))?;
        let style = FONT.into_font().color(&BLACK);
        let style = style.pos(Pos::new(HPos::Left, VPos::Center));
        legend.draw_text(&format!("flush = {flush}"), &style, (x + 20, 21))?;
        x += 150;
    }
    for ((title, value), area) in PANELS
        .into_iter()
        .zip(panels.split_evenly((1, PANELS.len())))
    {
        panel(&area, title, bars, value)?;
    }
    area.present()?;
    Ok(())
}

fn panel(area: &Area<'_>, title: &str, bars: &Bars, value: Measure) -> Result<()> {
    let all = bars.iter().flat_map(|(_, rows)| rows.iter().map(value));
    let top = all.fold(1.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption(title, FONT)
        .margin(10)
        .margin_bottom(30)
        .y_label_area_size(36)
        .build_cartesian_2d(0.0..bars.len() as f64, 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .light_line_style(TRANSPARENT)
        .draw()?;
    let small = ("sans-serif", 12).into_font().color(&BLACK);
    for (at, (work, rows)) in bars.iter().enumerate() {
        let left = at as f64 + 0.1;
        for (n, (row, (_, colour))) in rows.iter().zip(POLICIES).enumerate() {
            let (x, value) = (left + 0.27 * n as f64, value(row));
            let corners = [(x, 0.0), (x + 0.25, value)];
            chart.draw_series([Rectangle::new(corners, colour.filled())])?;
            // A bar that is not there is a value, too.
            let above = small.pos(Pos::new(HPos::Center, VPos::Bottom));
            let text = Text::new(short(value), (x + 0.125, value + top * 0.01), above);
            chart.draw_series([text])?;
        }
        let below = small.pos(Pos::new(HPos::Center, VPos::Top));
        let text = Text::new(work.clone(), (at as f64 + 0.5, -top * 0.03), below);
        chart.draw_series([text])?;
    }
    Ok(())
}

/// At most three digits.
fn short(value: f64) -> String {
    match value {
        value if value >= 9.95 => format!("{value:.0}"),
        value if value >= 0.05 => format!("{value:.1}"),
        _ => "0".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::bars;

    fn row(scenario: &str, flush: &str, timing: &str, invept: u64) -> String {
        format!(
            r#"{{"scenario":"{scenario}","ager":"page_idle","backing":"4k","flush":"{flush}","uncovered":"full","timing":"{timing}","aged":8,"invept":{invept}}}"#
        )
    }

    // Fails if a policy is drawn by another one's row, or a guest without one of them is drawn at all.
    #[test]
    fn rows_are_those_of_the_policies() {
        let rows = [
            row("hotset/64/all", "none", "now", 9),
            row("linux/zipf", "none", "now", 0),
            row("linux/zipf", "invept", "batched", 1),
            row("linux/zipf", "invept", "now", 8),
            row("linux/zipf", "hint", "now", 2),
            row("linux/random", "hint", "now", 3),
        ];
        let bars = bars(&format!(r#"{{"rows":[{}]}}"#, rows.join(","))).unwrap();
        assert_eq!(bars.len(), 1);
        assert_eq!(bars[0].0, "zipf");
        assert_eq!(bars[0].1.each_ref().map(|row| row.invept), [0, 8, 2]);
    }
}
