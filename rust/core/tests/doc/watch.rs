// SPDX-License-Identifier: GPL-2.0

// `bits` in the examples of rust/core/src/reporter/watch.rs: those of 64 pages, of which the
// host knows nothing.
//
// An example cannot share code with another, but it can include an expression:
// let bits = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/watch.rs"));
{
    use gvahint_core::reporter::watch::Watch;
    use gvahint_core::sync::{AtomicU32, AtomicU64, Ordering};

    #[derive(Default)]
    struct Bits {
        maps: [[AtomicU64; 1]; 4],
        dirty: [AtomicU64; 1],
        kicked: AtomicU32,
    }

    impl Bits {
        fn watch(&self) -> Watch<'_> {
            let maps = self.maps.each_ref().map(|map| &map[..]);
            Watch::new(maps, &self.dirty, &self.kicked)
        }

        /// The host knows of that page, and the kernel tells that nothing of it is true any more.
        #[allow(dead_code)]
        fn changed(&self, pfn: u64) {
            let [_, _, told, _] = &self.maps;
            told[0].fetch_or(1 << pfn, Ordering::SeqCst);
            self.watch().stale(pfn, 1);
        }
    }

    Bits::default()
}
