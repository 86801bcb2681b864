//! A proxy on a unix socket that writes down what is asked of the engine behind it.
//!
//! Made of threads, so that it also serves a program under test while the test itself blocks. It reads only what
//! clients send (several requests on a connection, bodies of both kinds) and passes on every byte as it came; after a
//! request to upgrade, a connection belongs to the two ends. What the engine answers is not looked at.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request that went through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `GET`.
    pub method: String,
    /// Path and query, with the version of the API: `/v1.41/containers/json?all=true`.
    pub path: String,
}

impl Asked {
    /// `GET /containers/json`: without version and query.
    pub fn brief(&self) -> String {
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
    asked: Mutex<Vec<Asked>>,
    connections: AtomicUsize,
    closed: AtomicBool,
    open: Mutex<Vec<UnixStream>>,
}

/// A proxy; it ends when dropped.
pub struct Proxy {
    directory: tempfile::TempDir,
    record: Arc<Record>,
}

impl Proxy {
    /// Listens on a socket of its own in front of this one.
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

    /// The socket to use in place of the engine's.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    /// The same as a value of `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// What was asked since the last time, and forgets it.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.record.asked.lock().unwrap())
    }

    /// How many connections were opened so far.
    pub fn connections(&self) -> usize {
        self.record.connections.load(Ordering::SeqCst)
    }

    /// Breaks every connection that is open, as an engine that is restarted does.
    pub fn cut(&self) {
        for stream in self.record.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.record.closed.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the listener, so that its thread ends.
        let _ = UnixStream::connect(self.socket());
    }
}

fn serve(client: UnixStream, engine: UnixStream, record: Arc<Record>) -> io::Result<()> {
    record.open.lock().unwrap().extend([client.try_clone()?, engine.try_clone()?]);
    let (mut answers, mut back) = (engine.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut answers, &mut back);
        // The engine has said all, or the client is gone: either way nobody is left to talk to.
        let _ = back.shutdown(Shutdown::Both);
        let _ = answers.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let _ = forward(BufReader::new(client), &engine, &record);
        // Only this half: the engine may still be answering.
        let _ = engine.shutdown(Shutdown::Write);
    });
    Ok(())
}

/// Passes requests on until the client has no more.
fn forward(mut client: BufReader<UnixStream>, mut engine: &UnixStream, record: &Record) -> io::Result<()> {
    loop {
        let Some(head) = read_head(&mut client)? else {
            return Ok(());
        };
        let request = Head::parse(&head);
        record.asked.lock().unwrap().push(request.asked);
        engine.write_all(head.as_bytes())?;
        match request.body {
            Length::Known(bytes) => {
                io::copy(&mut (&mut client).take(bytes), &mut engine)?;
            }
            Length::Chunked => forward_chunks(&mut client, engine)?,
        }
        if request.upgrade {
            io::copy(&mut client, &mut engine)?;
            return Ok(());
        }
    }
}

/// The head of a request with the empty line that ends it; `None`: the client has closed the connection.
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
    asked: Asked,
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
        let mut request = Head { asked: Asked { method, path }, body: Length::Known(0), upgrade: false };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => request.body = Length::Known(value.parse().unwrap_or(0)),
                "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => request.body = Length::Chunked,
                "upgrade" => request.upgrade = true,
                _ => {}
            }
        }
        request
    }
}

fn forward_chunks(client: &mut impl BufRead, mut engine: &UnixStream) -> io::Result<()> {
    loop {
        let mut line = String::new();
        client.read_line(&mut line)?;
        engine.write_all(line.as_bytes())?;
        let size = line.trim().split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
        // Each chunk is followed by the end of a line.
        io::copy(&mut (&mut *client).take(size + 2), &mut engine)?;
        if size == 0 {
            return Ok(());
        }
    }
}
