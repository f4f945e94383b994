// SPDX-License-Identifier: GPL-2.0
//! A terminal's screen.

use anyhow::{ensure, Result};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;
use vt100::{Cell, Parser, Screen};

/// What a program writes when it leaves the screen that it had for itself.
const LEAVES: &[u8] = b"\x1b[?1049l";

/// Pixels of a character, of the font, around all.
const WIDTH: f64 = 8.4;
const HEIGHT: i32 = 18;
/// plotters divides it by 1.24.
const FONT: f64 = 17.36;
const MARGIN: i32 = 12;

const TEXT: RGBColor = RGBColor(0xd8, 0xd8, 0xd8);
const PAPER: RGBColor = RGBColor(0x1c, 0x1c, 0x1c);
/// The first eight of a terminal's colours.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x28, 0x28, 0x28),
    RGBColor(0xcc, 0x44, 0x44),
    RGBColor(0x55, 0xaa, 0x55),
    RGBColor(0xcc, 0xaa, 0x33),
    RGBColor(0x55, 0x88, 0xcc),
    RGBColor(0xaa, 0x66, 0xaa),
    RGBColor(0x44, 0xaa, 0xaa),
    RGBColor(0xcc, 0xcc, 0xcc),
];

/// The screen of a full-screen program when it left it; an error if it never did, or showed nothing.
pub fn last(output: &[u8], rows: u16, columns: u16) -> Result<Screen> {
    let end = output.windows(LEAVES.len()).rposition(|w| w == LEAVES);
    let Some(end) = end else {
        anyhow::bail!("the program never left its screen");
    };
    let mut parser = Parser::new(rows, columns, 0);
    parser.process(&output[..end]);
    let screen = parser.screen().clone();
    ensure!(!screen.contents().trim().is_empty(), "the screen is empty");
    Ok(screen)
}

/// How a cell looks.
#[derive(Clone, Copy, PartialEq)]
struct Look {
    text: RGBColor,
    paper: RGBColor,
    bold: bool,
}

impl Look {
    fn of(cell: Option<&Cell>) -> Self {
        let Some(cell) = cell else {
            return Self {
                text: TEXT,
                paper: PAPER,
                bold: false,
            };
        };
        let mut text = colour(cell.fgcolor(), TEXT);
        let mut paper = colour(cell.bgcolor(), PAPER);
        if cell.inverse() {
            (text, paper) = (paper, text);
        }
        if cell.dim() {
            let between = |a: u8, b: u8| ((u16::from(a) * 3 + u16::from(b) * 2) / 5) as u8;
            text = RGBColor(
                between(text.0, paper.0),
                between(text.1, paper.1),
                between(text.2, paper.2),
            );
        }
        Self {
            text,
            paper,
            bold: cell.bold(),
        }
    }
}

fn colour(colour: vt100::Color, default: RGBColor) -> RGBColor {
    match colour {
        vt100::Color::Default => default,
        vt100::Color::Idx(i) => COLOURS[usize::from(i) % COLOURS.len()],
        vt100::Color::Rgb(r, g, b) => RGBColor(r, g, b),
    }
}

/// Draws it, line by line, a piece of text for each run of words that look alike.
pub fn draw(screen: &Screen, path: &Path) -> Result<()> {
    let (rows, columns) = screen.size();
    let x = |column: u16| MARGIN + (f64::from(column) * WIDTH) as i32;
    let size = (x(columns) + MARGIN, i32::from(rows) * HEIGHT + 2 * MARGIN);
    let area = SVGBackend::new(path, (size.0 as u32, size.1 as u32)).into_drawing_area();
    area.fill(&PAPER)?;
    for row in 0..rows {
        let y = MARGIN + i32::from(row) * HEIGHT;
        let mut column = 0;
        while column < columns {
            let (text, look) = run(screen, row, column);
            let next = column + text.chars().count() as u16;
            if look.paper != PAPER {
                let corners = [(x(column), y), (x(next), y + HEIGHT)];
                area.draw(&Rectangle::new(corners, look.paper.filled()))?;
            }
            let word = text.trim_start();
            let start = next - word.chars().count() as u16;
            if !word.is_empty() {
                let weight = match look.bold {
                    true => FontStyle::Bold,
                    false => FontStyle::Normal,
                };
                let style = ("monospace", FONT, weight).into_font().color(&look.text);
                let style = style.pos(Pos::new(HPos::Left, VPos::Center));
                area.draw_text(word.trim_end(), &style, (x(start), y + HEIGHT / 2))?;
            }
            column = next;
        }
    }
    area.present()?;
    Ok(())
}

/// The cells from `column` on that look alike, up to two blanks: what is far apart is placed by itself.
fn run(screen: &Screen, row: u16, column: u16) -> (String, Look) {
    let look = Look::of(screen.cell(row, column));
    let mut text = String::new();
    for column in column..screen.size().1 {
        let cell = screen.cell(row, column);
        let contents = cell.map_or("", Cell::contents);
        let blank = contents.trim().is_empty();
        if Look::of(cell) != look || (!blank && text.ends_with("  ")) {
            break;
        }
        text.push_str(if blank { " " } else { contents });
    }
    (text, look)
}

#[cfg(test)]
mod tests {
    use super::{last, run, COLOURS, TEXT};

    // Fails if what was drawn last is not what is seen, a colour is lost, or columns that are apart are
    // drawn as one.
    #[test]
    fn the_last_screen_is_seen() {
        let output =
            b"\x1b[?1049h\x1b[1;1Hone\x1b[2J\x1b[1;1H\x1b[33mVM\x1b[39m  1 live\x1b[?1049l$";
        let screen = last(output, 2, 20).unwrap();
        let (text, look) = run(&screen, 0, 0);
        assert_eq!((&*text, look.text), ("VM", COLOURS[3]));
        let (text, look) = run(&screen, 0, 2);
        assert_eq!((&*text, look.text), ("  ", TEXT));
        assert_eq!(run(&screen, 0, 4).0.trim_end(), "1 live");
    }

    // Fails if a program that was killed, or drew nothing, gives a picture.
    #[test]
    fn nothing_to_see_is_an_error() {
        assert!(last(b"\x1b[?1049h\x1b[1;1Hone", 2, 20).is_err());
        assert!(last(b"\x1b[?1049h\x1b[?1049l", 2, 20).is_err());
    }
}
