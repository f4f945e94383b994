// SPDX-License-Identifier: GPL-2.0
//! The trace events against their documentation, which is compiled in; and rmmod while they are on.

use super::Test;
use crate::scene::{need_cpus, user_set, Loaded, Scene, Setup};
use anyhow::{ensure, Context, Result};
use gvahint_vm::hints::Reporter;
use gvahint_vm::trace::{Recorder, TRACING};
use gvahint_vm::{module, sys};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

pub const TESTS: &[Test] = &[
    Test::new(
        "trace_documented",
        "the documented events, fields and words are those that are there",
        |_| documented(),
    ),
    Test::new(
        "trace_rmmod",
        "rmmod while all events are on and pages are aged",
        |_| rmmod(20),
    ),
];

const DOCUMENT: &str = include_str!("../../../../docs/abi/tracing-gvahint");

fn events() -> std::path::PathBuf {
    Path::new(TRACING).join("events/gvahint")
}

/// What is known of a name in the printed line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Field {
    /// None: it is printed only.
    kind: Option<String>,
    /// What numbers mean.
    words: BTreeMap<u64, String>,
}

type Fields = BTreeMap<String, Field>;

/// `0 no, 1 now,`
fn add_words(words: &mut BTreeMap<u64, String>, text: &str) {
    for pair in text.split(',') {
        let mut parts = pair.split_whitespace();
        if let (Some(Ok(number)), Some(word)) = (parts.next().map(str::parse), parts.next()) {
            words.insert(number, word.to_owned());
        }
    }
}

/// The documented events. Below "Description:", two blanks and a name begin a field; then comes its
/// type, if it has one; lines that begin with a digit hold words.
fn document() -> BTreeMap<String, Fields> {
    let mut all: BTreeMap<String, Fields> = BTreeMap::new();
    let (mut event, mut name) = (String::new(), String::new());
    for line in DOCUMENT.lines() {
        if let Some(path) = line.strip_prefix("What:") {
            event = path
                .trim()
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_owned();
        } else if let Some(field) = line.strip_prefix("\t\t  ") {
            let mut parts = field
                .split('\t')
                .map(str::trim)
                .filter(|part| !part.is_empty());
            name = parts.next().unwrap_or_default().to_owned();
            let kind = parts
                .next()
                .filter(|kind| ["u8", "u32", "s32", "u64", "s64"].contains(kind));
            let kind = kind.map(str::to_owned);
            let fields = all.entry(event.clone()).or_default();
            fields.insert(
                name.clone(),
                Field {
                    kind,
                    ..Field::default()
                },
            );
        } else if line.trim().starts_with(|c: char| c.is_ascii_digit()) {
            if let Some(field) = all.get_mut(&event).and_then(|fields| fields.get_mut(&name)) {
                add_words(&mut field.words, line);
            }
        }
    }
    all
}

/// One event by its `format`: types from the fields' lines, names and words from what is printed. The
/// n-th `%s` is the n-th `__print_symbolic`.
fn format(path: &Path) -> Result<Fields> {
    let text = sys::read(path)?;
    let mut kinds = BTreeMap::new();
    for line in text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("field:"))
    {
        let (declared, _) = line.split_once(';').context("a field without a type")?;
        let (kind, name) = declared
            .rsplit_once(' ')
            .context("a field without a name")?;
        if !name.starts_with("common_") {
            kinds.insert(name.to_owned(), kind.to_owned());
        }
    }
    let (_, print) = text.split_once("print fmt: \"").context("no print fmt")?;
    let (line, arguments) = print.split_once('"').context("print fmt without an end")?;
    let mut lists = arguments.split("__print_symbolic(").skip(1);
    let mut fields = Fields::new();
    for part in line.split_whitespace() {
        let (name, value) = part
            .split_once('=')
            .with_context(|| format!("{part} is no name"))?;
        let mut words = BTreeMap::new();
        if value == "%s" {
            for pair in lists
                .next()
                .context("a %s without words")?
                .split('{')
                .skip(1)
            {
                let (number, rest) = pair.split_once(',').context("a word without a number")?;
                let word = rest.split('"').nth(1).context("a number without a word")?;
                words.insert(number.trim().parse()?, word.to_owned());
            }
        }
        let kind = kinds.remove(name);
        fields.insert(name.to_owned(), Field { kind, words });
    }
    ensure!(kinds.is_empty(), "never printed: {kinds:?}");
    Ok(fields)
}

/// Fails if an event, a field, a type, a word or a number is not documented, or is and isn't there.
fn documented() -> Result<()> {
    let _loaded = Loaded::new()?;
    sys::mount("tracefs", TRACING, "instances")?;
    let mut there = BTreeMap::new();
    for entry in fs::read_dir(events()).context("the events")? {
        let path = entry?.path();
        if path.is_dir() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let fields = format(&path.join("format")).with_context(|| name.to_string())?;
            there.insert(name.to_string(), fields);
        }
    }
    let document = document();
    ensure!(
        document.keys().eq(there.keys()),
        "documented: {:?}, there: {:?}",
        document.keys(),
        there.keys()
    );
    for (event, fields) in &document {
        let names: BTreeSet<_> = fields.keys().chain(there[event].keys()).collect();
        for name in names {
            let (said, is) = (fields.get(name), there[event].get(name));
            ensure!(
                said == is,
                "{event}.{name}: documented {said:?}, there {is:?}"
            );
        }
        println!("{event}: {} names", fields.len());
    }
    Ok(())
}

/// Fails if events that are on keep rmmod from going through, if the kernel complains (pages are aged and
/// drained all the time), if events are left behind, or if they are on when the module comes back.
fn rmmod(count: usize) -> Result<()> {
    need_cpus(2)?;
    let mut scene = Scene::bare(Setup::quiet(64))?;
    scene.start()?;
    let mut reporter = Reporter::new(scene.vm.caller()?);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let ager = scope.spawn(|| -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                scene.idle.mark(&scene.pfns)?;
                sys::sleep_ms(1);
            }
            Ok(())
        });
        let mut cycle = || -> Result<()> {
            let loaded = Loaded::new()?;
            let enabled = sys::read(events().join("enable"))?;
            ensure!(enabled == "0", "after insmod, enable is {enabled}");
            let recorder = Recorder::start("gvahint")?;
            let memory = scene.vm.memory();
            ensure!(reporter.hello(memory)?.is_ok(), "HELLO failed");
            ensure!(reporter.linear(memory, &[])? == 0, "LINEAR failed");
            let sets: Vec<_> = (0..64).map(user_set).collect();
            reporter.report_all(memory, &sets)?;
            sys::sleep_ms(15);
            let seen = recorder.take()?;
            for name in ["aged", "plan", "flush", "report"] {
                let one = seen.iter().any(|event| event.name == name);
                ensure!(one, "no event {name}");
            }
            drop(loaded);
            ensure!(!module::loaded("gvahint"), "rmmod failed");
            ensure!(!events().exists(), "the events are still there");
            // Nobody can read them any more: the kernel has emptied the buffer.
            let left = recorder.take()?;
            ensure!(left.is_empty(), "{} events are left", left.len());
            Ok(())
        };
        let cycled = (0..count).try_for_each(|i| cycle().with_context(|| format!("cycle {i}")));
        stop.store(true, Ordering::Relaxed);
        ager.join().expect("the ager doesn't panic")?;
        cycled
    })
}
