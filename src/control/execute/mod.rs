//! Execution: carries out the commands of [`super::reconcile`] and decides nothing.

pub mod command;
pub mod connect;
pub mod executor;
pub mod functions;
pub mod hooks;
pub mod http;
pub mod outputs;
pub mod probe;
pub mod stack;
pub(super) mod tasks;
