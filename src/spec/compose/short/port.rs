//! Ports: `[[ADDRESS:]PUBLISHED:]TARGET[/PROTOCOL]`, each port or a range.

use std::net::IpAddr;

use super::super::super::node::{Node, Style, Value};
use super::{scalar, style_of};

/// A published port.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Port {
    /// Empty for all addresses.
    pub address: String,
    /// A port, a range from which the engine chooses, or empty for any free port.
    pub published: String,
    pub target: u16,
    pub protocol: String,
}

/// Parses a port or a range of ports, in the order of their texts.
pub(in super::super) fn parse(text: &str) -> Result<Vec<Port>, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (address, published, container) = match parts.as_slice() {
        [container] => (String::new(), "", *container),
        [published, container] => (String::new(), *published, *container),
        [address @ .., published, container] => (address.join(":"), *published, *container),
        [] => (String::new(), "", ""),
    };
    let mut container = container.split('/');
    let (targets, protocol) = (container.next().unwrap_or_default(), container.next().unwrap_or_default());
    if targets.is_empty() {
        return Err("the port of the container is missing".to_owned());
    }
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_lowercase() };
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!("unknown protocol `{protocol}`"));
    }
    let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&address).to_owned();
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        return Err(format!("`{address}` is not an IP address"));
    }
    let (start, end) = range(targets).ok_or_else(|| format!("`{targets}` is neither a port nor a range"))?;
    let published_range = match published {
        "" => None,
        text => Some(range(text).ok_or_else(|| format!("`{text}` is neither a port nor a range"))?),
    };
    if let Some((first, last)) = published_range
        && end != start
        && end - start != last - first
    {
        return Err(format!("the ranges {published} and {targets} have different lengths"));
    }
    let mut ports: Vec<Port> = (start..=end)
        .map(|target| {
            let published = published_range.map(|(first, last)| match start == end && first != last {
                true => format!("{first}-{last}"),
                false => (u32::from(first) + u32::from(target - start)).to_string(),
            });
            let (address, protocol) = (address.clone(), protocol.clone());
            Port { address, published: published.unwrap_or_default(), target, protocol }
        })
        .collect();
    ports.sort_by_cached_key(|port| port.target.to_string());
    Ok(ports)
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    match text.split_once('-') {
        None => number(text).map(|port| (port, port)),
        Some((start, end)) => {
            let (start, end) = (number(start)?, number(end)?);
            (start <= end).then_some((start, end))
        }
    }
}

/// Returns the ports of a short form in their long forms.
pub(in super::super) fn expand(node: &Node, text: &str) -> Result<Vec<Node>, String> {
    let (span, style) = (&node.span, style_of(node));
    let long = |port: Port| {
        let mut entries = vec![scalar(span, "mode", "ingress", Style::Text)];
        if !port.address.is_empty() {
            entries.push(scalar(span, "host_ip", port.address, style));
        }
        entries.push(scalar(span, "target", port.target.to_string(), Style::Plain));
        if !port.published.is_empty() {
            entries.push(scalar(span, "published", port.published, style_of(node)));
        }
        entries.push(scalar(span, "protocol", port.protocol, Style::Text));
        Node { span: span.clone(), value: Value::Map(entries) }
    };
    Ok(parse(text)?.into_iter().map(long).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        let show = |port: Port| format!("{}:{}:{}/{}", port.address, port.published, port.target, port.protocol);
        parse(text).map_or_else(|message| message, |ports| ports.into_iter().map(show).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn runner_up_ranges_of_ports() {
        for (text, expected) in [
            ("80", "::80/tcp"),
            ("3000-3002", "::3000/tcp ::3001/tcp ::3002/tcp"),
            ("8000-9000:80", ":8000-9000:80/tcp"),
            ("8000-8001:80-81/udp", ":8000:80/udp :8001:81/udp"),
            ("8000-8002:80-81", "the ranges 8000-8002 and 80-81 have different lengths"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080:80/tcp"),
            ("127.0.0.1::80", "127.0.0.1::80/tcp"),
            (":8080:80", ":8080:80/tcp"),
            (":80:80", ":80:80/tcp"),
            ("[::1]:8080:80", "::1:8080:80/tcp"),
            ("::1:8080:80", "::1:8080:80/tcp"),
            ("localhost:8080:80", "`localhost` is not an IP address"),
            ("8080:80/TCP", ":8080:80/tcp"),
            ("80/icmp", "unknown protocol `icmp`"),
            ("80-79", "`80-79` is neither a port nor a range"),
            ("8080:", "the port of the container is missing"),
            ("", "the port of the container is missing"),
            ("70000", "`70000` is neither a port nor a range"),
            ("9-11", "::10/tcp ::11/tcp ::9/tcp"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
