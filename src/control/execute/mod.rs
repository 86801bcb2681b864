//! Execution: carries out the commands of [`super::reconcile`] and decides nothing.

pub mod command;
mod connect;
pub mod context;
mod executor;
mod functions;
pub mod hooks;
mod http;
mod listening;
pub mod outputs;
pub mod probe;
pub mod routes;
pub mod supervisor;
pub(super) mod tasks;
mod tls;
mod translate;
