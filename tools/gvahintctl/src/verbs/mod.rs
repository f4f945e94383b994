// SPDX-License-Identifier: GPL-2.0
//! The verbs, a file each: its `Arguments` describe it, `Arguments::run` does it.
//!
//! A new verb is a file here, a line below, and two lines in `cli.rs`.

pub mod calibrate;
pub mod doctor;
pub mod explain;
pub mod export;
pub mod generate;
pub mod get;
pub mod set;
pub mod status;
pub mod top;

use crate::failure::{Failure, Result};
use crate::paint::Paint;
use serde::Serialize;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// Version of what `--json` prints.
const SCHEMA: u32 = 1;

/// A JSON document with its version.
#[derive(Serialize)]
struct Document<T> {
    schema: u32,
    #[serde(flatten)]
    content: T,
}

/// `content` as one line of JSON with `"schema"`.
fn json_line(content: impl Serialize) -> Result<String> {
    let schema = SCHEMA;
    let text = serde_json::to_string(&Document { schema, content });
    Ok(text.map_err(io::Error::from)? + "\n")
}

/// Prints. A reader that went away (`| head`) is no failure.
fn print(text: &str) -> Result<()> {
    is_read(text).map(drop)
}

/// The same; returns whether somebody still reads.
fn is_read(text: &str) -> Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        done => Ok(done.map(|()| true)?),
    }
}

/// Says something beside the output. Not by `eprint!`, which panics where nobody reads: what is being done
/// is to be done to its end.
pub fn tell(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Says which files held garbage; the exit code is that of the first.
fn complain(complaints: &[Failure]) -> ExitCode {
    let paint = Paint::of(&io::stderr());
    for failure in complaints {
        tell(&failure.shown(&paint));
    }
    complaints
        .first()
        .map_or(ExitCode::SUCCESS, |failure| failure.kind.exit())
}

/// An interval in seconds, from a tenth to an hour.
fn seconds(text: &str) -> std::result::Result<f64, String> {
    let seconds = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    match (0.1..=3600.0).contains(&seconds) {
        true => Ok(seconds),
        false => Err("not from 0.1 to 3600".to_owned()),
    }
}
