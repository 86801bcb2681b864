//! What BuildKit tells of a build: protobuf messages (`moby.buildkit.v1.StatusResponse`), of which a handful of fields
//! is read by hand. Anything else in them is skipped, as the format wants it.

/// News of a build.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Steps of which there is something new.
    pub vertices: Vec<Vertex>,
    /// Output of steps.
    pub logs: Vec<Log>,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vertex {
    /// Which.
    pub digest: String,
    /// `[2/3] RUN make`.
    pub name: String,
    /// Nothing had to be done.
    pub cached: bool,
    /// It has begun.
    pub started: bool,
    /// Why it failed; empty: it did not.
    pub error: String,
}

/// Output of a step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Log {
    /// Of which step.
    pub vertex: String,
    /// On its error stream.
    pub stderr: bool,
    /// A piece of it.
    pub text: Vec<u8>,
}

/// Reads a message; `None` where it is none.
pub fn status(bytes: &[u8]) -> Option<Status> {
    let mut status = Status::default();
    fields(bytes, |number, value| {
        match (number, value) {
            (1, Value::Bytes(bytes)) => status.vertices.push(vertex(bytes)?),
            (3, Value::Bytes(bytes)) => status.logs.push(log(bytes)?),
            _ => {}
        }
        Some(())
    })?;
    Some(status)
}

fn vertex(bytes: &[u8]) -> Option<Vertex> {
    let mut vertex = Vertex::default();
    fields(bytes, |number, value| {
        match (number, value) {
            (1, Value::Bytes(text)) => vertex.digest = lossy(text),
            (3, Value::Bytes(text)) => vertex.name = lossy(text),
            (4, Value::Number(cached)) => vertex.cached = cached != 0,
            (5, Value::Bytes(_)) => vertex.started = true,
            (7, Value::Bytes(text)) => vertex.error = lossy(text),
            _ => {}
        }
        Some(())
    })?;
    Some(vertex)
}

fn log(bytes: &[u8]) -> Option<Log> {
    let mut log = Log::default();
    fields(bytes, |number, value| {
        match (number, value) {
            (1, Value::Bytes(text)) => log.vertex = lossy(text),
            (3, Value::Number(stream)) => log.stderr = stream == 2,
            (4, Value::Bytes(text)) => log.text = text.to_vec(),
            _ => {}
        }
        Some(())
    })?;
    Some(log)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A value of a field.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Gives each field of a message with its number; `None` where the message is cut off or not one.
fn fields<'a>(mut rest: &'a [u8], mut take: impl FnMut(u64, Value<'a>) -> Option<()>) -> Option<()> {
    while !rest.is_empty() {
        let key = number(&mut rest)?;
        let value = match key & 7 {
            0 => Value::Number(number(&mut rest)?),
            1 => Value::Bytes(bytes(&mut rest, 8)?),
            2 => {
                let length = usize::try_from(number(&mut rest)?).ok()?;
                Value::Bytes(bytes(&mut rest, length)?)
            }
            5 => Value::Bytes(bytes(&mut rest, 4)?),
            _ => return None,
        };
        take(key >> 3, value)?;
    }
    Some(())
}

/// Seven bits of each byte, the lowest first, until one has its highest bit not set.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn bytes<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field that holds bytes.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len()).unwrap();
        assert!(length < 128);
        [&[number << 3 | 2, length], bytes].concat()
    }

    #[test]
    fn steps_and_their_output_are_read_and_the_rest_is_skipped() {
        let step = [
            field(1, b"sha256:1"),
            field(2, b"sha256:0"),
            field(3, b"[2/3] RUN make"),
            vec![4 << 3, 1],
            field(5, &[8, 0xe8, 0xd8, 0x9a, 0xd8, 6]),
            field(7, b"exit code: 2"),
            vec![9 << 3 | 5, 1, 2, 3, 4, 10 << 3 | 1, 1, 2, 3, 4, 5, 6, 7, 8],
        ];
        let log = [field(1, b"sha256:1"), vec![3 << 3, 2], field(4, b"no rule\n")];
        let message = [field(1, &step.concat()), field(2, b"\x0a\x01x"), field(3, &log.concat())].concat();
        let vertex = Vertex {
            digest: "sha256:1".into(),
            name: "[2/3] RUN make".into(),
            cached: true,
            started: true,
            error: "exit code: 2".into(),
        };
        let log = Log { vertex: "sha256:1".into(), stderr: true, text: b"no rule\n".into() };
        assert_eq!(status(&message), Some(Status { vertices: vec![vertex], logs: vec![log] }));
        assert_eq!(status(&[]), Some(Status::default()));
    }

    #[test]
    fn what_is_cut_off_or_no_message_is_none() {
        let message = field(1, &field(3, b"[1/1] FROM scratch"));
        for length in 1..message.len() {
            assert_eq!(status(&message[..length]), None, "{length}");
        }
        assert_eq!(status(&[0xff; 20]), None);
        assert_eq!(status(&[10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), None);
        assert_eq!(status(b"{\"json\": 1}"), None);
    }
}
