// SPDX-License-Identifier: GPL-2.0
//! The live view on a terminal of whatever size.

use super::app::App;
use super::rows::{Column, Row, COLUMNS};
use crate::knobs::NOTIFIERS;
use crate::numbers::{grouped, percent, rate, share};
use crate::snapshot::{policy, reasons};
use crate::table::Side;
use crate::words;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row as Cells, Table, TableState};
use ratatui::Frame;

/// Fewer lines than these show the table alone.
const DETAIL_FROM: u16 = 16;
const DETAIL: u16 = 8;
const KEYS: &str = "q leave  s sort  r reverse  ↑↓ choose  p pause  + - interval  h keys";
/// Counters that the chosen VM's pane shows, by their headings.
const PANE: [(&str, &str); 6] = [
    ("drains", "drains"),
    ("superseded", "superseded"),
    ("lagged", "lagged"),
    ("too many", "too_many"),
    ("overwritten", "overwritten"),
    ("kept", "kept"),
];

/// Draws it all.
pub fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    let detail = if area.height >= DETAIL_FROM {
        DETAIL
    } else {
        0
    };
    let [top, middle, lower, bottom] = Layout::vertical([
        Constraint::Length(area.height.saturating_sub(4).min(2)),
        Constraint::Min(1),
        Constraint::Length(detail),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(header(app)), top);
    draw_table(frame, app, middle);
    if detail > 0 {
        if let Some(row) = app.selected().and_then(|at| app.rows.get(at)) {
            draw_detail(frame, app, row, lower);
        }
    }
    frame.render_widget(Paragraph::new(footer(app)), bottom);
}

fn header(app: &App) -> Vec<Line<'static>> {
    let mut first = vec![
        Span::styled(format!("gvahint {}", app.now.version), Modifier::BOLD),
        Span::raw(format!(
            "  every {:.1} s, by {}",
            app.interval.as_secs_f64(),
            app.sort.name()
        )),
    ];
    if app.paused {
        first.push(Span::styled("  paused", Color::Yellow));
    }
    let policies = NOTIFIERS.map(|notifier| {
        format!(
            "{notifier} {}",
            policy(notifier, |name| &app.now.knobs[name])
        )
    });
    vec![Line::from(first), Line::from(policies.join("   "))]
}

fn footer(app: &App) -> Line<'static> {
    match (&app.trouble, app.help) {
        (Some(failure), _) => Line::styled(failure.what.clone(), Color::Red),
        (None, true) => Line::raw(KEYS),
        (None, false) => Line::styled("h keys  q leave", Modifier::DIM),
    }
}

/// The columns that fit, from left to right, with their widths.
fn columns(rows: &[Row], width: u16) -> Vec<(&'static Column, u16)> {
    let width_of = |column: &Column| {
        let cells = rows.iter().map(|row| (column.cell)(row).chars().count());
        cells.chain([column.head.len()]).max().unwrap_or(0)
    };
    let mut by_rank: Vec<_> = COLUMNS
        .iter()
        .map(|column| (column, width_of(column)))
        .collect();
    by_rank.sort_by_key(|(column, _)| column.rank);
    let mut left = usize::from(width) + 2;
    let fit = |(_, width): &&(&Column, usize)| match left.checked_sub(width + 2) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    let fitting: Vec<_> = by_rank.iter().take_while(fit).collect();
    COLUMNS
        .iter()
        .filter_map(|column| fitting.iter().find(|(fits, _)| std::ptr::eq(*fits, column)))
        .map(|(column, width)| (*column, u16::try_from(*width).unwrap_or(u16::MAX)))
        .collect()
}

fn draw_table(frame: &mut Frame<'_>, app: &App, area: Rect) {
    if app.rows.is_empty() {
        frame.render_widget(Paragraph::new("no VMs"), area);
        return;
    }
    let columns = columns(&app.rows, area.width);
    let line = |text: String, side: Side| match side {
        Side::Left => Line::from(text),
        Side::Right => Line::from(text).right_aligned(),
    };
    let heads = columns
        .iter()
        .map(|(column, _)| line(column.head.to_owned(), column.side));
    let rows = app.rows.iter().map(|row| {
        let cells = columns.iter().map(|(column, _)| {
            let cell = Cell::from(line((column.cell)(row), column.side));
            match column.head == "STATE" && row.vm.state != "live" {
                true => cell.style(Color::Yellow),
                false => cell,
            }
        });
        Cells::new(cells.collect::<Vec<_>>())
    });
    let table = Table::new(
        rows,
        columns.iter().map(|(_, width)| Constraint::Length(*width)),
    )
    .header(Cells::new(heads.collect::<Vec<_>>()).style(Modifier::BOLD))
    .column_spacing(2)
    .row_highlight_style(Modifier::REVERSED);
    let mut state = TableState::new().with_selected(app.selected());
    frame.render_stateful_widget(table, area, &mut state);
}

/// The chosen VM: state, policies, reasons, and what its drains did.
fn draw_detail(frame: &mut Frame<'_>, app: &App, row: &Row, area: Rect) {
    let vm = &row.vm;
    let block = Block::new()
        .borders(Borders::TOP)
        .title(format!(" {} ", vm.called()));
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let counters = PANE.map(|(head, name)| format!("{head} {}/s", rate(row.rate(name))));
    let mut lines = vec![
        Line::from(format!("{}: {}", vm.state, words::state(&vm.state))),
        Line::from(counters.join("  ")),
    ];
    for notifier in vm.own_policies() {
        let policy = policy(notifier, |name| app.now.effective(vm, name));
        lines.push(Line::from(format!("own policy: {notifier} {policy}")));
    }
    let reasons = reasons(&row.rose);
    let uncovered = reasons.iter().map(|(_, pages)| pages).sum();
    for (name, pages) in reasons {
        let part = share(pages, uncovered);
        let meaning = words::find(words::REASONS, name).map_or("", |word| word.meaning);
        let bar = "█".repeat((part * 20.0).round() as usize);
        lines.push(Line::from(vec![
            Span::styled(format!("{bar:20} "), Style::new().fg(Color::Cyan)),
            Span::raw(format!(
                "{:>7} {name} ({}): {meaning}",
                percent(part),
                grouped(pages)
            )),
        ]));
    }
    if uncovered == 0 {
        lines.push(Line::styled(
            "no page was uncovered in this interval",
            Modifier::DIM,
        ));
    }
    frame.render_widget(Paragraph::new(lines), inside);
}
