// SPDX-License-Identifier: GPL-2.0
//! What bindgen makes of shim.h: linux/gva_hint.h, the shim, the uapi header.
//!
//! No code of ours: everything unsafe here is a declaration.

#![allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]

// Types outside the allow-list are the kernel crate's, so that both agree.
use kernel::bindings::*;
use kernel::ffi;

include!(concat!(env!("GVAHINT_OBJ"), "/bindings_generated.rs"));
