//! Listening ports of a container, read inside of it: for where its network cannot be reached.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::engine::{Engine, EngineError, Exec, LogLine};

/// Time limit of the command.
const LIMIT: Duration = Duration::from_secs(10);
/// Prints the sockets of the container's network namespace. `cat` needs no shell.
const COMMAND: [&str; 3] = ["cat", "/proc/net/tcp", "/proc/net/tcp6"];
/// Kernel's code of the listening state.
const LISTEN: &str = "0A";

/// Whether a port of a container accepts connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listening {
    Yes,
    No,
    /// Only from the container itself.
    LoopbackOnly,
    /// The container has no program to find out.
    Unknown,
}

/// Finds out whether a TCP port of a container listens on this address of it.
///
/// # Errors
///
/// If the engine cannot run a command in the container.
pub(super) async fn listening(
    engine: &dyn Engine,
    id: &str,
    address: Option<IpAddr>,
    port: u16,
) -> Result<Listening, EngineError> {
    let exec = Exec { command: COMMAND.map(str::to_owned).into(), env: BTreeMap::new(), limit: LIMIT };
    let mut table = String::new();
    let mut on_line = |line: LogLine| {
        if !line.stderr {
            table.push_str(&line.text);
            table.push('\n');
        }
    };
    match engine.exec(id, &exec, &mut on_line).await {
        // The exit code is not 0 if the kernel has no IPv6.
        Ok(_) => Ok(in_table(&table, address, port)),
        Err(error) if error.to_string().contains("executable file") => Ok(Listening::Unknown),
        Err(error) => Err(error),
    }
}

/// Searches tables as in `/proc/net/tcp` and `/proc/net/tcp6`.
fn in_table(table: &str, address: Option<IpAddr>, port: u16) -> Listening {
    if !table.contains("local_address") {
        return Listening::Unknown;
    }
    let mut found = Listening::No;
    for line in table.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, ..] = fields.as_slice() else { continue };
        let Some((local, local_port)) = local.split_once(':').filter(|_| *state == LISTEN) else { continue };
        if u16::from_str_radix(local_port, 16) != Ok(port) {
            continue;
        }
        match parse_address(local) {
            Some(local) if local.is_unspecified() || Some(local) == address => return Listening::Yes,
            Some(local) if local.is_loopback() => found = Listening::LoopbackOnly,
            _ => {}
        }
    }
    found
}

/// Parses an address: words of 32 bits, each in the byte order of the host.
fn parse_address(text: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for at in (0..text.len()).step_by(8) {
        let word = u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n";

    fn row(address: impl Into<IpAddr>, port: u16, state: &str) -> String {
        let octets = match address.into() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let words = octets.chunks(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap()));
        let words: String = words.map(|word| format!("{word:08X}")).collect();
        format!("   0: {words}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0\n")
    }

    #[test]
    fn listening_sockets_are_found() {
        let own = Ipv4Addr::new(172, 18, 0, 2);
        for (rows, expected) in [
            (String::new(), Listening::No),
            (row([0, 0, 0, 0], 80, LISTEN), Listening::Yes),
            (row(own, 80, LISTEN), Listening::Yes),
            (row(Ipv6Addr::UNSPECIFIED, 80, LISTEN), Listening::Yes),
            (row(own.to_ipv6_mapped(), 80, LISTEN), Listening::Yes),
            (row([0, 0, 0, 0], 81, LISTEN), Listening::No),
            (row([0, 0, 0, 0], 80, "01"), Listening::No),
            (row([172, 19, 0, 2], 80, LISTEN), Listening::No),
            (row([127, 0, 0, 1], 80, LISTEN), Listening::LoopbackOnly),
            (row([127, 0, 0, 1], 80, LISTEN) + &row(own, 80, LISTEN), Listening::Yes),
        ] {
            let table = format!("{HEAD}{rows}{HEAD}");
            assert_eq!(in_table(&table, Some(own.into()), 80), expected, "{table}");
        }
        assert_eq!(in_table("exec: \"cat\": executable file not found\n", Some(own.into()), 80), Listening::Unknown);
    }
}
