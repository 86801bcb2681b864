//! Build progress of BuildKit: the fields of `moby.buildkit.v1.StatusResponse` that are used.
//!
//! Field numbers are those of BuildKit's `api/services/control/control.proto`; other fields are skipped.

use prost::Message;

/// An update of a build.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// Build steps that changed.
    #[prost(message, repeated, tag = "1")]
    pub vertices: Vec<Vertex>,
    /// Output of build steps.
    #[prost(message, repeated, tag = "3")]
    pub logs: Vec<Log>,
}

/// A build step.
#[derive(Clone, PartialEq, Message)]
pub struct Vertex {
    #[prost(string, tag = "1")]
    pub digest: String,
    /// Name for people: `[2/3] RUN make`.
    #[prost(string, tag = "3")]
    pub name: String,
    /// The result was in the build cache.
    #[prost(bool, tag = "4")]
    pub cached: bool,
    /// Present once the step has started; its time is not read.
    #[prost(message, optional, tag = "5")]
    pub started: Option<Time>,
    /// Why the step failed; empty if it did not.
    #[prost(string, tag = "7")]
    pub error: String,
}

/// A time, of which only the presence matters.
#[derive(Clone, PartialEq, Message)]
pub struct Time {}

/// A piece of a build step's output.
#[derive(Clone, PartialEq, Message)]
pub struct Log {
    /// Digest of the step.
    #[prost(string, tag = "1")]
    pub vertex: String,
    /// 1 for stdout, 2 for stderr.
    #[prost(int64, tag = "3")]
    pub stream: i64,
    #[prost(bytes = "vec", tag = "4")]
    pub text: Vec<u8>,
}

/// Decodes an update; `None` if the message is malformed.
pub fn status(bytes: &[u8]) -> Option<Status> {
    Status::decode(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes a length-delimited field.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len()).unwrap();
        assert!(length < 128);
        [&[number << 3 | 2, length], bytes].concat()
    }

    #[test]
    fn steps_and_output_are_read_and_other_fields_skipped() {
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
            started: Some(Time {}),
            error: "exit code: 2".into(),
        };
        let log = Log { vertex: "sha256:1".into(), stream: 2, text: b"no rule\n".into() };
        assert_eq!(status(&message), Some(Status { vertices: vec![vertex], logs: vec![log] }));
        assert_eq!(status(&[]), Some(Status::default()));
    }

    #[test]
    fn truncated_or_malformed_message_is_none() {
        let message = field(1, &field(3, b"[1/1] FROM scratch"));
        for length in 1..message.len() {
            assert_eq!(status(&message[..length]), None, "{length}");
        }
        assert_eq!(status(&[0xff; 20]), None);
        assert_eq!(status(&[10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), None);
        assert_eq!(status(b"{\"json\": 1}"), None);
    }
}
