//! A proxy on a unix socket that records the requests to the engine.
//!
//! The proxy runs in threads, so that it serves a program under test while the test blocks. It parses only requests
//! (several per connection, with `Content-Length` or chunked bodies) and forwards all bytes unchanged. After an upgrade
//! request, it only copies bytes. Responses are not parsed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A forwarded request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`.
    pub method: String,
    /// Path and query, with the API version: `/v1.41/containers/json?all=true`.
    pub path: String,
}

impl Request {
    /// Returns method and path without version and query: `GET /containers/json`.
    pub fn endpoint(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        let path = match path.strip_prefix("/v1.").and_then(|rest| rest.split_once('/')) {
            Some((_, rest)) => format!("/{rest}"),
            None => path.to_owned(),
        };
        format!("{} {path}", self.method)
    }
}

#[derive(Default)]
struct Record {
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
    closed: AtomicBool,
    open: Mutex<Vec<UnixStream>>,
}

/// A running proxy; stopped when dropped.
pub struct Proxy {
    directory: tempfile::TempDir,
    record: Arc<Record>,
}

impl Proxy {
    /// Starts a proxy for the given engine socket.
    pub fn start(engine: &Path) -> Proxy {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("docker.sock")).unwrap();
        let record = Arc::new(Record::default());
        let (engine, shared) = (engine.to_owned(), record.clone());
        thread::spawn(move || {
            for client in listener.incoming() {
                if shared.closed.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(client), Ok(engine)) = (client, UnixStream::connect(&engine)) else {
                    continue;
                };
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let _ = serve(client, engine, shared.clone());
            }
        });
        Proxy { directory, record }
    }

    /// Returns the path of the proxy's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    /// Returns the proxy's socket as a value for `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Returns and clears the recorded requests.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.record.requests.lock().unwrap())
    }

    /// Returns the number of connections opened so far.
    pub fn connections(&self) -> usize {
        self.record.connections.load(Ordering::SeqCst)
    }

    /// Closes all open connections, like an engine restart.
    pub fn drop_connections(&self) {
        for stream in self.record.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.record.closed.store(true, Ordering::SeqCst);
        self.drop_connections();
        // Wakes the listener thread, so that it exits.
        let _ = UnixStream::connect(self.socket());
    }
}

fn serve(client: UnixStream, engine: UnixStream, record: Arc<Record>) -> io::Result<()> {
    record.open.lock().unwrap().extend([client.try_clone()?, engine.try_clone()?]);
    let (mut responses, mut back) = (engine.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut responses, &mut back);
        // The engine has closed the connection or the client is gone: close both directions.
        let _ = back.shutdown(Shutdown::Both);
        let _ = responses.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let _ = forward(BufReader::new(client), &engine, &record);
        // Close only the write half: the engine may still be sending a response.
        let _ = engine.shutdown(Shutdown::Write);
    });
    Ok(())
}

/// Forwards requests until the client closes the connection.
fn forward(mut client: BufReader<UnixStream>, mut engine: &UnixStream, record: &Record) -> io::Result<()> {
    loop {
        let Some(text) = read_head(&mut client)? else {
            return Ok(());
        };
        let head = Head::parse(&text);
        record.requests.lock().unwrap().push(head.request);
        engine.write_all(text.as_bytes())?;
        match head.body {
            Length::Known(bytes) => {
                io::copy(&mut (&mut client).take(bytes), &mut engine)?;
            }
            Length::Chunked => forward_chunks(&mut client, engine)?,
        }
        if head.upgrade {
            io::copy(&mut client, &mut engine)?;
            return Ok(());
        }
    }
}

/// Reads a request head including the final empty line; returns `None` if the client has closed the connection.
fn read_head(client: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut head = String::new();
    loop {
        if client.read_line(&mut head)? == 0 {
            return Ok(None);
        }
        if head.ends_with("\r\n\r\n") {
            return Ok(Some(head));
        }
    }
}

struct Head {
    request: Request,
    body: Length,
    upgrade: bool,
}

enum Length {
    Known(u64),
    Chunked,
}

impl Head {
    fn parse(head: &str) -> Head {
        let mut lines = head.lines();
        let mut first = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let (method, path) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
        let mut parsed = Head { request: Request { method, path }, body: Length::Known(0), upgrade: false };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => parsed.body = Length::Known(value.parse().unwrap_or(0)),
                "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => parsed.body = Length::Chunked,
                "upgrade" => parsed.upgrade = true,
                _ => {}
            }
        }
        parsed
    }
}

fn forward_chunks(client: &mut impl BufRead, mut engine: &UnixStream) -> io::Result<()> {
    loop {
        let mut line = String::new();
        client.read_line(&mut line)?;
        engine.write_all(line.as_bytes())?;
        let size = line.trim().split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
        // Each chunk ends with CRLF.
        io::copy(&mut (&mut *client).take(size + 2), &mut engine)?;
        if size == 0 {
            return Ok(());
        }
    }
}
