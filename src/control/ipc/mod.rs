//! Other processes: the lock of the group, and the socket beside it.

pub mod lock;
pub mod socket;
pub mod wire;
