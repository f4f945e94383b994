// SPDX-License-Identifier: GPL-2.0

// `vm` in the examples of rust/core/src: what the host keeps for a VM, small.
// 16 nodes are handed in, the log has 8 slots, the one vCPU has drained it.
//
// An example cannot share code with another, but it can include an expression:
// let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
{
    use gvahint_core::addr::{Gfn, Gva, VaBits};
    use gvahint_core::counters::Counters;
    use gvahint_core::kept::Kept;
    use gvahint_core::log::{Drained, Flusher, Log};
    use gvahint_core::node::{Node, Nodes, NODE_SLOTS};
    use gvahint_core::plan::{Env, Reason};
    use gvahint_core::policy::{LinearAlias, Policy, Tunables};
    use gvahint_core::pool::WriterState;
    use gvahint_core::report::{self, Applied, Limits, Sets};
    use gvahint_core::sync::AtomicU64;
    use gvahint_core::table::{Hints, Query, Shape, Top};
    use gvahint_core::wanted::Wanted;
    use gvahint_core::writer::Writer;

    struct Few(Vec<Box<Node>>);

    impl Nodes for Few {
        fn node(&self, id: u32) -> Option<&Node> {
            Some(self.0.get((id as usize).checked_sub(1)?)?)
        }
    }

    /// Writes down what it is told to drop.
    #[derive(Default)]
    struct Cpu {
        dropped: Vec<String>,
    }

    impl Flusher for Cpu {
        fn gva(&mut self, gva: Gva) -> bool {
            self.dropped.push(format!("{:#x}", gva.raw()));
            true
        }

        fn context(&mut self) {
            self.dropped.push("context".into());
        }

        fn full(&mut self) {
            self.dropped.push("full".into());
        }
    }

    struct Vm {
        top: Top,
        nodes: Few,
        state: WriterState,
        ring: Vec<AtomicU64>,
        head: AtomicU64,
        full: AtomicU64,
        context: AtomicU64,
        cursor: AtomicU64,
        cpu: Cpu,
        counters: Counters,
        records: AtomicU64,
        places: Vec<AtomicU64>,
        leaves: Vec<AtomicU64>,
    }

    impl Vm {
        fn hints(&self) -> Hints<'_, Few> {
            Hints::new(&self.top, &self.nodes, Shape::new(1 << 27).unwrap())
        }

        fn writer(&mut self) -> Writer<'_, Few> {
            let hints = Hints::new(&self.top, &self.nodes, Shape::new(1 << 27).unwrap());
            Writer::new(hints, &mut self.state)
        }

        fn log(&self) -> Log<'_> {
            Log::new(&self.head, &self.full, &self.context, &self.ring)
        }

        /// REPORT of these words at 1,000 ms, all of it in the memslots.
        fn report(&mut self, words: &[u64]) -> Applied {
            let max_gfn = self.hints().shape().max_gfn();
            let mut sets = Sets::new(words, Limits { bits: VaBits::Bits48, max_gfn });
            report::apply(&mut sets, 0, &mut self.writer(), 1_000, |_, _| true)
        }

        /// REPORT of one MAPPED set.
        fn map(&mut self, gfn: u64, order: u64, gvas: &[u64]) {
            let header = gfn | order << 40 | 1 << 46 | (gvas.len() as u64) << 50;
            let applied = self.report(&[&[header], gvas].concat());
            assert_eq!(applied.answer(), Ok(1));
        }

        fn query(&self) -> Query {
            let (now_ms, max_age_ms, alias) = (1_000, 60_000, LinearAlias::Auto);
            Query { now_ms, max_age_ms, alias }
        }

        /// The gVAs of a frame.
        fn lookup(&self, gfn: u64) -> Result<Vec<u64>, Reason> {
            let found = self.hints().lookup(Gfn::new(gfn).unwrap(), &self.query())?;
            Ok(found.iter().map(Gva::raw).collect())
        }

        /// What a notifier call decides by, while the lease holds.
        fn env(&self, policy: Policy) -> Env<'_, Few> {
            Env {
                policy,
                tunables: Tunables::DEFAULT,
                log: self.log(),
                hints: Ok(self.hints()),
                can_flush_gva: true,
                counters: &self.counters,
                wanted: Some(self.wanted()),
                kept: Some(self.kept()),
            }
        }

        fn wanted(&self) -> Wanted<'_> {
            Wanted::new(&self.records, &self.places)
        }

        fn kept(&self) -> Kept<'_> {
            Kept::new(&self.leaves)
        }

        /// The vCPU enters the guest; at most 4 gVAs are flushed singly.
        fn drain(&mut self) -> Drained {
            let log = Log::new(&self.head, &self.full, &self.context, &self.ring);
            self.cpu.dropped.clear();
            log.drain(&self.cursor, 4, &mut self.cpu)
        }
    }

    let zero = || AtomicU64::new(0);
    let node = || Box::new([const { AtomicU64::new(0) }; NODE_SLOTS]);
    let mut vm = Vm {
        top: Top::new(),
        nodes: Few((0..16).map(|_| node()).collect()),
        state: WriterState::new(),
        ring: (0..8).map(|_| zero()).collect(),
        head: zero(),
        full: zero(),
        context: zero(),
        cursor: zero(),
        cpu: Cpu::default(),
        counters: Counters::new(),
        records: zero(),
        places: (0..8).map(|_| zero()).collect(),
        leaves: (0..2).map(|_| zero()).collect(),
    };
    (1..=16).for_each(|id| assert!(vm.state.hand_in(&vm.nodes, id)));
    vm
}
