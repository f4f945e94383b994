// SPDX-License-Identifier: GPL-2.0

//! loom's atomics, made when they are first touched: the crate's constructors
//! are `const`, and of a table's thousands of words a model touches a few.
//!
//! loom takes the thread that makes an atomic for the one that wrote its first
//! value. So a model has to [`AtomicU64::touch`] what its threads share before
//! it starts them; otherwise they would synchronise where they do not.

extern crate std;

use core::sync::atomic::Ordering;
use loom::sync::atomic;
use std::sync::OnceLock;

macro_rules! modelled {
    ($Name:ident, $value:ty) => {
        /// An atomic word whose orderings are modelled.
        #[derive(Debug)]
        pub struct $Name {
            first: $value,
            word: OnceLock<atomic::$Name>,
        }

        #[allow(missing_docs)]
        impl $Name {
            pub const fn new(first: $value) -> Self {
                let word = OnceLock::new();
                Self { first, word }
            }

            fn word(&self) -> &atomic::$Name {
                self.word.get_or_init(|| atomic::$Name::new(self.first))
            }

            /// Makes it known to loom.
            pub fn touch(&self) {
                self.word();
            }

            pub fn load(&self, order: Ordering) -> $value {
                self.word().load(order)
            }

            pub fn store(&self, value: $value, order: Ordering) {
                self.word().store(value, order);
            }

            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                self.word().swap(value, order)
            }

            pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                self.word().fetch_add(value, order)
            }

            pub fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                self.word().fetch_or(value, order)
            }

            pub fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                self.word().fetch_and(value, order)
            }

            pub fn fetch_max(&self, value: $value, order: Ordering) -> $value {
                self.word().fetch_max(value, order)
            }

            pub fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.word().compare_exchange(old, new, success, failure)
            }
        }
    };
}

modelled!(AtomicU32, u32);
modelled!(AtomicU64, u64);
