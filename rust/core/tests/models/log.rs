// SPDX-License-Identifier: GPL-2.0

//! Steps of producers and vCPUs, played on the flush log and on a naive one:
//! each vCPU has a list of what it has not served.

#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions)]

use crate::common::{gva, Op, Vm};
use gvahint_core::addr::Gva;
use gvahint_core::log::{Done, Flusher, Scope};
use gvahint_core::sync::{AtomicU64, Ordering::Relaxed};
use std::fmt;

#[derive(Clone, Copy)]
pub(crate) enum Append {
    Gva(u64),
    Context,
    Full,
}

#[derive(Clone)]
pub(crate) enum Step {
    Append(Append),
    /// A producer reserves and is held up.
    Reserve(u64),
    /// The one that waits longest writes.
    Write,
    /// vCPU, `max_gvas`, a page that is refused, what others append meanwhile.
    Drain(usize, u32, Option<u64>, Vec<Append>),
    /// vCPU, scope, what others append before the flush executes.
    Superseded(usize, Scope, Vec<Append>),
    Resync,
    /// Another ring of so many slots.
    Ring(u64),
}

// One line each, also where a whole case is printed.
impl fmt::Debug for Append {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Append::Gva(page) => write!(f, "gva {page}"),
            Append::Context => write!(f, "context"),
            Append::Full => write!(f, "full"),
        }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Append(entry) => write!(f, "append {entry:?}"),
            Step::Reserve(page) => write!(f, "reserve for gva {page}"),
            Step::Write => write!(f, "write"),
            Step::Drain(vcpu, max, refuse, meanwhile) => {
                write!(f, "drain vcpu {vcpu}, max {max}")?;
                if let Some(page) = refuse {
                    write!(f, ", refuse {page}")?;
                }
                write!(f, ", meanwhile {meanwhile:?}")
            }
            Step::Superseded(vcpu, scope, meanwhile) => {
                write!(
                    f,
                    "superseded vcpu {vcpu} {scope:?}, meanwhile {meanwhile:?}"
                )
            }
            Step::Resync => write!(f, "resync"),
            Step::Ring(size) => write!(f, "ring of {size}"),
        }
    }
}

/// What an entry needs; a resync is served by nothing but a full flush.
type Entry = (u64, Op);

/// By vCPU; and one past the last entry that is no gVA.
struct Unserved(Vec<Vec<Entry>>, u64);

impl Unserved {
    fn append(&mut self, pos: u64, op: Op) {
        if !matches!(op, Op::Gva(_)) {
            self.1 = pos + 1;
        }
        for list in &mut self.0 {
            list.push((pos, op));
        }
    }

    fn serve(&mut self, vcpu: usize, op: Op) {
        self.0[vcpu].retain(|(_, entry)| match op {
            Op::Full => false,
            Op::Context => *entry == Op::Full,
            Op::Gva(_) => *entry != op,
        });
    }
}

pub(crate) struct Player {
    vm: Vm,
    cursors: Vec<AtomicU64>,
    unserved: Unserved,
    held_up: Vec<(u64, u64)>,
}

/// Flushes what the log says; others append during the first flush.
struct Vcpu<'a> {
    vm: &'a Vm,
    unserved: &'a mut Unserved,
    id: usize,
    refuse: Option<u64>,
    meanwhile: &'a [Append],
    ops: Vec<Op>,
}

impl Vcpu<'_> {
    fn flush(&mut self, op: Op) {
        self.ops.push(op);
        self.unserved.serve(self.id, op);
        for entry in std::mem::take(&mut self.meanwhile) {
            append(self.vm, self.unserved, *entry);
        }
    }
}

impl Flusher for Vcpu<'_> {
    fn gva(&mut self, gva: Gva) -> bool {
        let page = gva.raw() >> 12;
        if self.refuse != Some(page) {
            self.flush(Op::Gva(page));
        }
        self.refuse != Some(page)
    }

    fn context(&mut self) {
        self.flush(Op::Context);
    }

    fn full(&mut self) {
        self.flush(Op::Full);
    }
}

/// As the planner does: the context where there is no ring.
fn append(vm: &Vm, unserved: &mut Unserved, entry: Append) {
    let pos = vm.head.load(Relaxed);
    let op = match entry {
        Append::Gva(page) if vm.log().append_gva(gva(page)) => Op::Gva(page),
        Append::Gva(_) | Append::Context => {
            vm.log().append_context();
            Op::Context
        }
        Append::Full => {
            vm.log().append_full();
            Op::Full
        }
    };
    assert_eq!(vm.head.load(Relaxed), pos + 1);
    unserved.append(pos, op);
}

impl Player {
    pub(crate) fn new(size: u64, vcpus: usize, start: u64) -> Self {
        let vm = Vm::at(size, start);
        Self {
            cursors: (0..vcpus).map(|_| vm.cursor()).collect(),
            unserved: Unserved(vec![Vec::new(); vcpus], 0),
            vm,
            held_up: Vec::new(),
        }
    }

    fn size(&self) -> u64 {
        self.vm.log().size()
    }

    pub(crate) fn play(&mut self, step: &Step) {
        let head = self.vm.head.load(Relaxed);
        match step {
            Step::Append(entry) => append(&self.vm, &mut self.unserved, *entry),
            // Whoever is held up for a whole lap is log::tests' business.
            Step::Reserve(page) if self.size() > 0 => {
                self.vm.head.fetch_add(1, Relaxed);
                self.unserved.append(head, Op::Gva(*page));
                self.held_up.push((head, *page));
            }
            Step::Reserve(_) => {}
            Step::Write => self.write(),
            Step::Drain(vcpu, max, refuse, meanwhile) => {
                self.drain(*vcpu, *max, *refuse, meanwhile);
            }
            Step::Superseded(vcpu, scope, meanwhile) => self.supersede(*vcpu, *scope, meanwhile),
            Step::Resync => self.resync(),
            Step::Ring(size) => {
                // Nobody appends to the old ring any more.
                while !self.held_up.is_empty() {
                    self.write();
                }
                self.vm.slots = (0..*size).map(|_| AtomicU64::new(0)).collect();
                self.resync();
            }
        }
        let head = self.vm.head.load(Relaxed);
        for (vcpu, cursor) in self.cursors.iter().enumerate() {
            let cursor = cursor.load(Relaxed);
            let lost = self.unserved.0[vcpu].iter().find(|(pos, _)| *pos < cursor);
            assert_eq!(lost, None, "vcpu {vcpu} at {cursor}");
            assert!(cursor <= head);
        }
    }

    fn write(&mut self) {
        if !self.held_up.is_empty() {
            let (pos, page) = self.held_up.remove(0);
            if self.vm.head.load(Relaxed) - pos <= self.size() {
                self.vm.write(pos, page);
            }
        }
    }

    fn resync(&mut self) {
        self.vm.log().resync();
        let head = self.vm.head.load(Relaxed);
        self.unserved.1 = head;
        for (list, cursor) in self.unserved.0.iter_mut().zip(&self.cursors) {
            if cursor.load(Relaxed) < head {
                list.push((head - 1, Op::Full));
            }
        }
    }

    fn supersede(&mut self, vcpu: usize, scope: Scope, meanwhile: &[Append]) {
        let (log, cursor) = (self.vm.log(), &self.cursors[vcpu]);
        let full = self.unserved.0[vcpu].iter().any(|(_, op)| *op == Op::Full);
        let pending = log.pending(cursor);
        let all = log.superseded(cursor, scope);
        assert_eq!(all, pending && (scope == Scope::Root || !full));
        for entry in meanwhile {
            append(&self.vm, &mut self.unserved, *entry);
        }
        let op = if scope == Scope::Root {
            Op::Full
        } else {
            Op::Context
        };
        // The flush serves what came meanwhile, too, but no cursor says so.
        let before = self.vm.head.load(Relaxed) - meanwhile.len() as u64;
        let late: Vec<Entry> = self.unserved.0[vcpu]
            .iter()
            .filter(|e| e.0 >= before)
            .copied()
            .collect();
        self.unserved.serve(vcpu, op);
        self.unserved.0[vcpu].retain(|e| e.0 < before);
        self.unserved.0[vcpu].extend(late);
    }

    fn drain(&mut self, vcpu: usize, max: u32, refuse: Option<u64>, meanwhile: &[Append]) {
        let (log, cursor) = (self.vm.log(), &self.cursors[vcpu]);
        let lag = self.vm.head.load(Relaxed) - cursor.load(Relaxed);
        let only_gvas = self.unserved.1 <= cursor.load(Relaxed);
        let few = lag <= log.size().min(u64::from(max));
        let mut f = Vcpu {
            vm: &self.vm,
            unserved: &mut self.unserved,
            id: vcpu,
            refuse,
            meanwhile,
            ops: Vec::new(),
        };
        let drained = log.drain(cursor, max, &mut f);
        let (ops, undisturbed) = (
            f.ops,
            f.meanwhile.len() == meanwhile.len() || meanwhile.is_empty(),
        );
        let gvas = ops.iter().filter(|op| matches!(op, Op::Gva(_))).count();
        assert_eq!(drained.gvas as usize, gvas);
        assert!(gvas as u64 <= u64::from(max) && gvas as u64 <= log.size());
        let strongest = match ops.last() {
            None => Done::Nothing,
            Some(Op::Gva(_)) => Done::Gvas,
            Some(Op::Context) => Done::Context,
            Some(Op::Full) => Done::Full,
        };
        assert_eq!(drained.done, strongest);
        assert!(!drained.unpublished || !self.held_up.is_empty());
        if !only_gvas || !few {
            assert_eq!(ops.len(), 1, "more than needed: {ops:?}");
        } else if refuse.is_none() && undisturbed {
            assert_eq!(ops.len(), gvas, "needless: {ops:?}");
            assert_eq!(log.pending(cursor), drained.unpublished);
        }
    }

    /// Everybody writes and drains; nothing stays unserved.
    pub(crate) fn finish(mut self) {
        while !self.held_up.is_empty() {
            self.write();
        }
        for vcpu in 0..self.cursors.len() {
            self.play(&Step::Drain(vcpu, 512, None, Vec::new()));
            assert_eq!(self.unserved.0[vcpu], [], "vcpu {vcpu}");
            assert!(!self.vm.log().pending(&self.cursors[vcpu]));
        }
    }
}
