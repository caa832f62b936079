//! What several test programs share.

#![allow(dead_code, unused_imports, reason = "no test program uses all of it")]

pub(crate) mod raw;
pub(crate) mod spoil;
pub(crate) mod tiny;
