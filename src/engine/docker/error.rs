//! Errors of the API and the connection, converted to [`EngineError`].

use std::borrow::Cow;

use super::*;

/// Returns true if an error means that the mutation's goal was already reached.
pub(super) fn reached(mutation: &Mutation, error: &BollardError) -> bool {
    let BollardError::DockerResponseServerError { status_code, message } = error else {
        return false;
    };
    let status_code = code(*status_code, message);
    match mutation {
        Mutation::Remove { .. } => {
            status_code == 404 || (status_code == 409 && message.contains("already in progress"))
        }
        Mutation::RemoveNetwork(_) | Mutation::RemoveVolume(_) | Mutation::RemoveImage(_) => status_code == 404,
        Mutation::Rename { .. } => message.contains("same name as its current name"),
        Mutation::Unpause(_) => message.contains("is not paused"),
        // A message with an id is about a removed network: the container may still be attached by name.
        Mutation::Disconnect { network, .. } => {
            message.contains("is not connected to")
                && (short(network) == network || !message.contains(network.as_str()))
        }
        // Containers already started or stopped give status 304, which bollard treats as success.
        Mutation::Start(_) | Mutation::FirstStart { .. } | Mutation::Stop { .. } => false,
        Mutation::Signal { .. }
        | Mutation::Create(_)
        | Mutation::Update { .. }
        | Mutation::CreateNetwork { .. }
        | Mutation::Connect { .. } => false,
    }
}

/// Returns true if the container does not exist, as opposed to a path in it.
pub(super) fn is_no_container(error: &BollardError) -> bool {
    // Podman writes it in lower case.
    error.to_string().to_lowercase().contains("no such container")
}

/// The status of a response. Podman answers 500 where Docker has a status of its own.
fn code(status_code: u16, message: &str) -> u16 {
    let says = |text: &str| message.contains(text);
    match status_code {
        // A container that is removed during the request, and a removed network that a container is in.
        500 if says("no such container") || says("network not found") => 404,
        500 if says("that name is already in use") || says("can only create exec sessions on running containers") => {
            409
        }
        _ => status_code,
    }
}

pub(super) fn status(error: &BollardError) -> Option<u16> {
    match error {
        BollardError::DockerResponseServerError { status_code, message } => Some(code(*status_code, message)),
        _ => None,
    }
}

pub(super) fn fault(endpoint: &Endpoint, attempted: &str, error: BollardError) -> EngineError {
    let attempted = attempted.to_owned();
    match error {
        BollardError::DockerResponseServerError { status_code, message } => match code(status_code, &message) {
            400 => EngineError::Invalid { attempted, message },
            404 => EngineError::NotFound { attempted, message },
            403 if message.contains("active endpoints") => EngineError::ActiveEndpoints { attempted, message },
            500 if message.contains("network is being used") => EngineError::ActiveEndpoints { attempted, message },
            403 | 409 => EngineError::Conflict { attempted, message },
            // It has exited, and the engine did not know yet.
            500 if message.contains("cannot update a stopped container") => {
                EngineError::Conflict { attempted, message }
            }
            _ if message.contains("port is already allocated") => EngineError::PortAllocated { attempted, message },
            _ => EngineError::Refused { attempted, message },
        },
        BollardError::DockerStreamError { error } => EngineError::Refused { attempted, message: error },
        BollardError::RequestTimeoutError => EngineError::TimedOut { attempted, limit: Duration::from_secs(NEVER) },
        BollardError::IOError { .. } | BollardError::HyperResponseError { .. } => {
            EngineError::Unreachable { endpoint: endpoint.to_string(), reason: reason(endpoint, &error) }
        }
        error => EngineError::Refused { attempted, message: error.to_string() },
    }
}

/// Message of a failed connection.
pub(super) fn reason(endpoint: &Endpoint, error: &(dyn StdError + 'static)) -> String {
    let mut cause = Some(error);
    let mut last = error.to_string();
    while let Some(error) = cause {
        if let Some(reason) = known_reason(endpoint, error) {
            return reason.into_owned();
        }
        last = error.to_string();
        cause = error.source();
    }
    last
}

fn known_reason(endpoint: &Endpoint, error: &(dyn StdError + 'static)) -> Option<Cow<'static, str>> {
    const CLOSED: &str = "the engine closed the connection";
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return (error.is_incomplete_message() || error.is_canceled() || error.is_closed()).then_some(CLOSED.into());
    }
    let error = match error.downcast_ref::<BollardError>() {
        Some(BollardError::IOError { err }) => err,
        _ => error.downcast_ref::<io::Error>()?,
    };
    // bollard keeps only the text of an error that ends a stream.
    if error.kind() == io::ErrorKind::Other && error.to_string().contains("reading a body from connection") {
        return Some(CLOSED.into());
    }
    if let Endpoint::Tls(address, tls) = endpoint
        && let Some(error) = error.get_ref().and_then(|error| error.downcast_ref())
    {
        return Some(tls.explain(address, error).into());
    }
    let local = matches!(endpoint, Endpoint::Unix(_));
    let reason = match error.kind() {
        io::ErrorKind::NotFound if local => Some("no such socket"),
        io::ErrorKind::ConnectionRefused if local => {
            Some("connection refused (the socket is there, but no engine listens)")
        }
        io::ErrorKind::ConnectionRefused => Some("connection refused"),
        io::ErrorKind::PermissionDenied => Some("permission denied (is your user in the group docker?)"),
        io::ErrorKind::TimedOut => Some("no answer"),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Some(CLOSED),
        _ => None,
    };
    reason.map(Cow::Borrowed)
}
