// SPDX-License-Identifier: GPL-2.0
//! `top`: as text, as JSON, and on a terminal.

mod common;

use common::{terminal, Host, GARBAGE, NOT_LOADED, USAGE};
use pty_process::blocking::Pty;
use pty_process::Size;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

// Fails if rates are not those of the interval, or lines are not sorted as asked for.
#[test]
fn once_shows_rates() {
    let host = Host::with_vms();
    let arguments = ["--json", "--interval", "2", "--sort", "aged"];
    let ran = host.run_while(&[&["top", "--once"][..], &arguments].concat(), |_| {
        host.stat(2, "aged", 1000);
        host.stat(2, "uncovered", 10);
        host.stat(2, "covered", 30);
    });
    let document = ran.exits(0).json();
    let seconds = document["seconds"].as_f64().unwrap();
    assert!((2.0..20.0).contains(&seconds), "{seconds}");
    let [first, second] = [&document["vms"][0], &document["vms"][1]];
    assert_eq!((&first["id"], &second["id"]), (&2.into(), &1.into()));
    let rate = first["per_second"]["aged"].as_f64().unwrap();
    assert!(
        (rate * seconds - 1000.0).abs() < 1.0,
        "{rate} a second in {seconds} s"
    );
    assert_eq!(first["coverage"], 0.75);
    assert_eq!(second["per_second"]["aged"], 0.0);
    assert_eq!(second["bytes"], 2_200_000, "a level is no rate: {second}");
    let text = host.run(&["top", "--once", "--interval", "0.1"]).exits(0);
    text.says(&["VM", "INVEPT/s", "qemu-system-x86", "262,144"]);
}

// Fails if a VM of a module that was reloaded meanwhile has rates, by what another one with its number had counted.
#[test]
fn a_module_is_reloaded() {
    for reloaded in [
        |host: &Host| host.stat(1, "covered", 8),
        |host: &Host| host.sysfs("vms/1/pid", "4244"),
    ] {
        let host = Host::with_vms();
        let ran = host.run_while(&["top", "--once", "--json", "--interval", "2"], |_| {
            reloaded(&host);
            host.stat(1, "aged", 3000);
            host.stat(2, "aged", 3000);
        });
        let document = ran.exits(0).json();
        let rate = |vm: usize| document["vms"][vm]["per_second"]["aged"].as_f64().unwrap();
        assert_eq!(document["vms"][0]["id"], 1);
        assert!(rate(0) == 0.0 && rate(1) > 0.0, "{document}");
    }
}

// Fails if the live view scribbles into a pipe, or does not say what to use instead.
#[test]
fn a_pipe_is_no_terminal() {
    let ran = Host::with_vms()
        .run(&["top"])
        .exits(USAGE)
        .complains(&["needs a terminal", "--once"]);
    assert!(ran.out.is_empty(), "{ran:#?}");
    Host::bare().run(&["top", "--once"]).exits(NOT_LOADED);
    for interval in ["0", "-1", "1e9", "soon", "NaN"] {
        let interval = format!("--interval={interval}");
        Host::with_vms()
            .run(&["top", "--once", &interval])
            .exits(USAGE);
    }
}

// Fails if JSON without --once is not a line an interval, or ends with the first.
#[test]
fn json_is_a_line_an_interval() {
    let host = Host::with_vms();
    let mut top = host.program(&["top", "--json", "--interval", "0.1"]);
    let mut top = top.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(top.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let line = lines.next().unwrap().unwrap();
        let document: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(document["vms"].as_array().unwrap().len(), 2);
    }
    // Who stops reading ends it.
    drop(lines);
    assert!(top.wait().is_ok());
}

/// The live view on a terminal of its own.
struct Live {
    shell: Child,
    /// None: it has gone.
    terminal: Option<Pty>,
    seen: String,
    /// What the terminal shows: only what differs is drawn anew.
    screen: vt100::Parser,
}

const ENTERED: &str = "\x1b[?1049h";
const LEFT: &str = "\x1b[?1049l";
const CURSOR: &str = "\x1b[?25h";

impl Live {
    fn start(host: &Host, rows: u16, columns: u16) -> Self {
        Self::start_after(":", host, rows, columns)
    }

    /// The same; the shell that starts it runs `first` before.
    fn start_after(first: &str, host: &Host, rows: u16, columns: u16) -> Self {
        let top = host.program(&["top", "--interval", "0.2"]);
        let words = std::iter::once(top.get_program()).chain(top.get_args());
        let words = words.map(|word| format!("'{}'", word.to_string_lossy()));
        let words = words.collect::<Vec<_>>().join(" ");
        let mut shell = Command::new("bash");
        shell.arg("-c").arg(format!(
            "{first}; (echo pid=$BASHPID; exec {words}); echo code=$?; stty -a"
        ));
        let (terminal, shell) = terminal::start(shell, &[]);
        terminal.resize(Size::new(rows, columns)).unwrap();
        let mut live = Self {
            shell,
            terminal: Some(terminal),
            seen: String::new(),
            // A terminal of one character is more than it takes.
            screen: vt100::Parser::new(rows.max(24), columns.max(80), 0),
        };
        live.until(ENTERED);
        live
    }

    /// Reads on until the terminal shows `text`, or was sent it.
    #[track_caller]
    fn until(&mut self, text: &str) {
        let late = Instant::now() + Duration::from_secs(60);
        let mut byte = [0; 4096];
        while !self.seen.contains(text) && !self.shows().contains(text) {
            assert!(Instant::now() < late, "no {text:?} in\n{}", self.shows());
            let n = self.terminal.as_mut().unwrap().read(&mut byte);
            let n = n.unwrap_or_else(|error| panic!("{error}: no {text:?} in {:?}", self.seen));
            self.screen.process(&byte[..n]);
            self.seen += &String::from_utf8_lossy(&byte[..n]);
        }
    }

    fn shows(&self) -> String {
        self.screen.screen().contents()
    }

    fn press(&mut self, keys: &[u8]) {
        let keyboard = self.terminal.as_mut().unwrap();
        keyboard.write_all(keys).unwrap();
    }

    /// Fails unless the terminal is as it was, and the exit code is this one.
    #[track_caller]
    fn ends(mut self, code: i32) {
        self.until(&format!("code={code}"));
        self.until("echoke");
        let after = self.seen.rsplit(LEFT).next().unwrap();
        assert!(
            self.seen.contains(LEFT) && self.seen.contains(CURSOR),
            "{:?}",
            self.seen
        );
        for on in ["icanon", "echo", "isig"] {
            assert!(
                after.split_whitespace().any(|word| word == on),
                "no {on} in {after:?}"
            );
        }
        self.shell.wait().unwrap();
    }
}

impl Drop for Live {
    /// Ends what a test that failed left.
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

// Fails if a key does not leave, or leaves the terminal raw, without cursor or on the other screen.
#[test]
fn keys_leave() {
    for keys in [&b"q"[..], b"\x03"] {
        let host = Host::with_vms();
        let mut live = Live::start(&host, 24, 100);
        live.until("qemu-system-x86");
        live.press(keys);
        live.ends(0);
    }
}

// Fails if a signal ends it without mending the terminal.
#[test]
fn signals_leave() {
    let host = Host::with_vms();
    for signal in ["TERM", "HUP", "INT"] {
        let mut live = Live::start(&host, 24, 100);
        live.until("qemu-system-x86");
        let (_, pid) = live.seen.split_once("pid=").unwrap();
        common::signal(signal, pid.split_whitespace().next().unwrap());
        live.ends(0);
    }
}

// Fails if it goes on, at full speed, on a terminal that nobody has any more; if the shell ignores SIGHUP,
// it is not told.
#[test]
fn a_terminal_may_go() {
    goes_with_its_terminal(":");
    goes_with_its_terminal("trap '' HUP");
}

fn goes_with_its_terminal(first: &str) {
    let host = Host::with_vms();
    let mut live = Live::start_after(first, &host, 24, 100);
    live.until("qemu-system-x86");
    let (_, pid) = live.seen.split_once("pid=").unwrap();
    let process = format!("/proc/{}", pid.split_whitespace().next().unwrap());
    assert!(Path::new(&process).exists());
    live.terminal = None;
    let limit = Instant::now() + Duration::from_secs(20);
    while Path::new(&process).exists() {
        assert!(Instant::now() < limit, "{process} is still there");
        std::thread::sleep(Duration::from_millis(50));
    }
}

// Fails if a panic leaves the terminal as the live view needs it, or is not reported. (101 is Rust's.)
#[cfg(debug_assertions)]
#[test]
fn a_panic_leaves() {
    let host = Host::with_vms();
    let mut live = Live::start(&host, 24, 100);
    live.press(b"!");
    live.until("as asked for");
    live.ends(101);
}

// Fails if a small terminal, keys in any order, or what happens to the module meanwhile ends the view.
#[test]
fn it_lives_through_what_happens() {
    let host = Host::with_vms();
    for (rows, columns) in [(24, 80), (5, 20), (1, 1), (3, 300)] {
        let mut live = Live::start(&host, rows, columns);
        live.press(b"ssrh+-pp\x1b[B\x1b[A\x1b[6~\x1b[5~");
        std::thread::sleep(Duration::from_millis(400));
        live.press(b"q");
        live.ends(0);
    }
    let mut live = Live::start(&host, 24, 100);
    live.until("silent");
    host.kill(2);
    host.sysfs("batch_pages", "a few");
    live.until("holds \"a few\"");
    host.sysfs("batch_pages", "64");
    std::fs::rename(
        host.path("sys/kernel/gvahint"),
        host.path("sys/kernel/gone"),
    )
    .unwrap();
    live.until("not loaded");
    live.press(b"q");
    live.ends(0);
}

// Fails if it goes to the other screen before it finds that there is nothing to show, or does not say why.
#[test]
fn it_does_not_begin_in_vain() {
    let garbage = Host::with_vms();
    garbage.sysfs("batch_pages", "a few");
    for (host, code, told) in [
        (Host::bare(), NOT_LOADED, "gvahint is not loaded"),
        (garbage, GARBAGE, "batch_pages holds"),
    ] {
        let ran = host.run_on_terminal(&["top"], &[]).exits(code);
        assert!(!ran.says(&[told]).out.contains(ENTERED));
    }
}

/// Whether what a terminal got sets a colour, of text or behind it.
fn is_coloured(seen: &str) -> bool {
    let colour = |n: u32| matches!(n, 30..=38 | 40..=48 | 90..=97 | 100..=107);
    seen.split("\x1b[").any(|piece| {
        let attributes = piece.split_once('m').map_or("", |(head, _)| head);
        attributes
            .split(';')
            .any(|word| word.parse().is_ok_and(colour))
    })
}

// Fails if the screen has no colour, or has any if NO_COLOR is set.
#[test]
fn colour_may_be_unwanted() {
    for (first, due) in [("export NO_COLOR=1", false), ("export NO_COLOR=", true)] {
        let host = Host::with_vms();
        let mut live = Live::start_after(first, &host, 24, 100);
        live.until("silent");
        host.sysfs("batch_pages", "a few");
        live.until("holds \"a few\"");
        assert_eq!(is_coloured(&live.seen), due, "{first}: {:?}", live.seen);
        live.press(b"q");
        live.ends(0);
    }
}
