//! What tests on a real engine share.

// Each test program uses its own part of it.
#![allow(dead_code)]

pub mod ground;
pub mod proxy;
