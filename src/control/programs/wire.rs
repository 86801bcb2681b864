//! Messages between drillmaster and its workers: JSON, each after its length as a big-endian 32-bit number, as
//! [`tokio_util::codec::LengthDelimitedCodec`] has it by default.

use std::io::{self, Read, Write};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::spec::starlark::{
    CallContext, CallResult, Evaluated, FileAnswer, FileQuery, HttpTarget, ProgramError, Programs,
};

/// Maximum size of a message in bytes. The specs that programs may generate fit in.
pub const MAX_MESSAGE: usize = 512 << 20;
/// Maximum size of a request of a function in bytes.
pub const MAX_REQUEST: usize = 16 << 20;

/// Message to a worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToWorker {
    /// Evaluate programs; answered with [`FromWorker::Evaluated`] after any number of queries. The first message.
    Evaluate(Programs),
    /// Answer to a [`FromWorker::Query`].
    Answer(Result<FileAnswer, String>),
    /// Call a function, given by index; answered with [`FromWorker::Returned`] after any number of requests.
    Call { index: usize, context: CallContext },
    /// Reply to a [`FromWorker::Request`], or an error message for the user.
    Reply(Result<serde_json::Value, String>),
}

/// Message from a worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromWorker {
    Query(FileQuery),
    Evaluated(Box<Evaluated>),
    Request(HostRequest),
    /// A printed line; has no reply.
    Print(String),
    Returned(Result<CallResult, ProgramError>),
}

/// Request of a function; see [`crate::spec::starlark::Host`].
#[derive(Debug, Serialize, Deserialize)]
pub enum HostRequest {
    Exec(Vec<String>, Option<Duration>),
    Run(Vec<String>, Option<Duration>),
    Get(HttpTarget, Option<Duration>),
    Tcp(u16),
    Logs(u32),
    Sleep(Duration),
}

/// Encodes a message, without its length.
///
/// # Errors
///
/// If it is larger than `maximum` bytes.
pub fn encode(message: &impl Serialize, maximum: usize) -> io::Result<Vec<u8>> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > maximum { Err(io::Error::other("message too large")) } else { Ok(bytes) }
}

/// Decodes a message, without its length.
///
/// # Errors
///
/// If it is invalid.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    // Trees are at most `node::MAX_DEPTH` levels deep, which are several levels of JSON each.
    deserializer.disable_recursion_limit();
    Ok(T::deserialize(&mut deserializer)?)
}

/// Writes an encoded message.
///
/// # Errors
///
/// If it cannot be written.
pub fn write(writer: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    writer.write_all(&length.to_be_bytes())?;
    writer.write_all(message)
}

/// Reads a message.
///
/// # Errors
///
/// If it is larger than [`MAX_MESSAGE`], is invalid or cannot be read.
pub fn read<T: DeserializeOwned>(reader: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    reader.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_MESSAGE {
        return Err(io::Error::other("message too large"));
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes)?;
    decode(&bytes)
}
