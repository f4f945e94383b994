// SPDX-License-Identifier: GPL-2.0

//! `bench.svg`: appending by vCPUs, and building and memory by peer.

use crate::aims::GENERAL;
use crate::maps::Map;
use crate::ours::Table;
use crate::peers::fifo::Fifos;
use crate::rows::{Report, Row};
use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const OURS: RGBColor = RGBColor(0x1b, 0x6c, 0xa8);
const THEIRS: RGBColor = RGBColor(0xd9, 0x5f, 0x02);
const FONT: (&str, u32) = ("sans-serif", 16);

/// Draws it.
pub fn draw(report: &Report, path: &Path) -> Result<()> {
    let area = SVGBackend::new(path, (1200, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let parts = area.split_evenly((1, 3));
    appends(report, &parts[0])?;
    // The largest guest that was measured.
    let size = ["1tib", "64gib"]
        .into_iter()
        .find(|size| report.value(&format!("rss_per_hint_{size}")).is_some());
    let size = size.unwrap_or("64gib");
    let build = format!("table_build_{size}");
    let times: Vec<_> = peers(report, &build)
        .map(|(peer, row)| (peer, 1.0 / row.value))
        .collect();
    bars(&parts[1], &format!("{build}: time (ours 1)"), 1.0, &times)?;
    let memory = format!("rss_per_hint_{size}");
    let theirs: Vec<_> = peers(report, &memory)
        .filter_map(|(peer, row)| Some((peer, row.peer_value?)))
        .collect();
    let ours = report.value(&memory).unwrap_or_default();
    bars(&parts[2], &format!("{memory}: bytes"), ours, &theirs)?;
    area.present()?;
    Ok(())
}

fn peers<'a>(report: &'a Report, name: &'a str) -> impl Iterator<Item = (String, &'a Row)> {
    report
        .named(name)
        .filter_map(|row| Some((row.peer.clone()?, row)))
}

/// Instructions of an append by the number of vCPUs, both axes logarithmic.
fn appends(report: &Report, area: &Area<'_>) -> Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for vcpus in [1u32, 4, 16, 64, 256, 1024] {
        let name = format!("append_vcpus_{vcpus}");
        ours.extend(report.value(&name).map(|value| (f64::from(vcpus), value)));
        let fifo = report.peer(&name, Fifos::NAME);
        theirs.extend(fifo.map(|value| (f64::from(vcpus), value)));
    }
    let top = theirs.iter().map(|(_, value)| *value).fold(100.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption("append: instructions by vCPUs", FONT)
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(60)
        .build_cartesian_2d((1.0..1024.0).log_scale(), (1.0..top * 2.0).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (name, points, colour) in [(Table::NAME, ours, OURS), (Fifos::NAME, theirs, THEIRS)] {
        let line = LineSeries::new(points, colour.stroke_width(2)).point_size(3);
        let drawn = chart.draw_series(line)?.label(name);
        drawn.legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled()));
    }
    let mut labels = chart.configure_series_labels();
    labels
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(FONT);
    labels.background_style(WHITE).draw()?;
    Ok(())
}

/// A bar for us and for each peer.
fn bars(area: &Area<'_>, title: &str, ours: f64, theirs: &[(String, f64)]) -> Result<()> {
    let mut all = vec![(Table::NAME.to_owned(), ours)];
    all.extend(theirs.iter().cloned());
    let top = all.iter().map(|(_, value)| *value).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, FONT)
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(60)
        .build_cartesian_2d((0..all.len()).into_segmented(), 0.0..top * 1.15)?;
    let name = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(at) => all
            .get(*at)
            .map_or_else(String::new, |(name, _)| name.clone()),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&name)
        .draw()?;
    for (at, (peer, value)) in all.iter().enumerate() {
        let colour = match peer.as_str() {
            Table::NAME => OURS,
            peer if GENERAL.contains(&peer) => THEIRS,
            _ => RGBColor(0x88, 0x88, 0x88),
        };
        let corners = [
            (SegmentValue::Exact(at), 0.0),
            (SegmentValue::Exact(at + 1), *value),
        ];
        let mut bar = Rectangle::new(corners, colour.filled());
        bar.set_margin(0, 0, 12, 12);
        chart.draw_series([bar])?;
        let label = (SegmentValue::CenterOf(at), *value + top * 0.06);
        chart.draw_series([Text::new(format!("{value:.1}"), label, FONT)])?;
    }
    Ok(())
}
