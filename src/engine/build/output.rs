//! Build output as lines: the text of the classic builder and the build steps of BuildKit. Keeps the current step and
//! its last lines of output to explain a failure.

use std::collections::{HashMap, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::trace::{self, Vertex};
use super::{BuildError, BuildProgress};
use crate::engine::lines::{Lines, truncate};

/// Number of last lines shown for a failed step.
const LAST_LINES: usize = 10;
/// Lines of the classic builder, and of Podman, that are not shown.
const NOISE: [&str; 3] = [" ---> Running in ", "Removing intermediate container ", "COMMIT "];
/// Longest reported line, in bytes.
const LONGEST_LINE: usize = 8 * 1024;

/// A message of the build response.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    /// The image or layer of a status, or the kind of message.
    id: Option<String>,
    /// A chunk of output.
    stream: Option<String>,
    /// Status of an image being pulled.
    status: Option<String>,
    /// Progress of a layer, reported repeatedly.
    #[serde(rename = "progressDetail")]
    progress: Option<Value>,
    /// Why it failed.
    error: Option<String>,
    /// Id of the image, or an update of BuildKit.
    aux: Option<Value>,
}

/// Output so far.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Output of the classic builder.
    printed: Lines,
    /// Steps of BuildKit.
    steps: HashMap<String, Step>,
    /// The current step, or the one that failed.
    step: Step,
    /// Why it failed.
    error: Option<String>,
    built: bool,
}

/// A step with its last lines of output.
#[derive(Debug, Default)]
struct Step {
    /// `step 2/3 RUN make`; empty: none.
    title: String,
    told: bool,
    cached: bool,
    lines: Lines,
    last: VecDeque<String>,
}

impl Step {
    fn note(&mut self, line: &str) {
        if !line.trim().is_empty() {
            if self.last.len() == LAST_LINES {
                self.last.pop_front();
            }
            self.last.push_back(line.to_owned());
        }
    }
}

impl Output {
    /// Applies a message and reports the lines that it completes.
    pub fn take(&mut self, message: &[u8], mut tell: impl FnMut(BuildProgress)) {
        let Ok(message) = serde_json::from_slice::<Message>(message) else {
            return;
        };
        if let Some(stream) = message.stream {
            for line in self.printed.take(false, stream.as_bytes()) {
                self.printed(&line.text, &mut tell);
            }
        }
        if let Some(status) = message.status.filter(|_| message.progress.is_none()) {
            let line = message.id.as_ref().map_or_else(|| status.clone(), |id| format!("{id}: {status}"));
            tell(BuildProgress::Line(line));
        }
        match message.aux {
            Some(Value::String(encoded)) if message.id.as_deref() == Some("moby.buildkit.trace") => {
                let status = STANDARD.decode(encoded).ok().and_then(|bytes| trace::status(&bytes));
                if let Some(status) = status {
                    self.traced(status, &mut tell);
                }
            }
            Some(aux) => self.built |= aux.get("ID").is_some(),
            None => {}
        }
        self.error = self.error.take().or(message.error);
    }

    /// A line of the classic builder.
    fn printed(&mut self, line: &str, tell: &mut impl FnMut(BuildProgress)) {
        let line = of_podman(plain(line));
        // Intermediate containers and images are not reported.
        let noise = NOISE.iter().any(|noise| line.starts_with(noise)) || is_image_id(&line);
        let told = !noise && !line.trim().is_empty();
        match line.strip_prefix("Step ").and_then(|rest| rest.split_once(" : ")) {
            Some((number, what)) => {
                self.step = Step { title: title(number, what), ..Step::default() };
                tell(BuildProgress::Step(line));
            }
            None if told => {
                self.step.note(&line);
                tell(BuildProgress::Line(line));
            }
            None => {}
        }
    }

    fn traced(&mut self, status: trace::Status, tell: &mut impl FnMut(BuildProgress)) {
        for vertex in status.vertices {
            let Vertex { digest, name, cached, started, error } = vertex;
            let step = self.steps.entry(digest).or_default();
            if step.title.is_empty() {
                let numbered = name.strip_prefix('[').and_then(|rest| rest.split_once("] "));
                step.title = match numbered {
                    Some((number, what)) if number != "internal" => title(number, what),
                    _ => format!("`{name}`"),
                };
            }
            // Internal steps are shown only if they fail.
            let internal = name.starts_with("[internal]") || !name.starts_with('[');
            if started.is_some() && !step.told && !internal {
                step.told = true;
                tell(BuildProgress::Step(name.clone()));
            }
            if cached && !step.cached && !internal {
                step.cached = true;
                let number = name.split_once("] ").map_or(name.as_str(), |(number, _)| number);
                tell(BuildProgress::Step(format!("{number}] is cached")));
            }
            if !error.is_empty() && !error.contains("context canceled") {
                // Its last output belongs to the explanation.
                let step = std::mem::take(step);
                let mut failed = Step { lines: Lines::default(), ..step };
                for line in step.lines.rest() {
                    failed.note(&plain(&line.text));
                }
                self.step = failed;
            }
        }
        for log in status.logs {
            let step = self.steps.entry(log.vertex).or_default();
            for line in step.lines.take(log.stream == 2, &log.text) {
                let line = plain(&line.text);
                step.note(&line);
                if !line.trim().is_empty() {
                    tell(BuildProgress::Line(line));
                }
            }
        }
    }

    /// The result of the build.
    ///
    /// # Errors
    ///
    /// Why the build failed: the step, then its last lines of output.
    pub fn end(mut self, mut tell: impl FnMut(BuildProgress)) -> Result<(), BuildError> {
        for line in std::mem::take(&mut self.printed).rest() {
            self.printed(&line.text, &mut tell);
        }
        let why = match self.error {
            None if self.built => return Ok(()),
            None => "the engine ended the build without a word".to_owned(),
            Some(why) => failure_of_podman(plain(&why)),
        };
        let Step { title, last, .. } = self.step;
        let by_sources = is_caused_by_sources(&why, &last);
        let why = if title.is_empty() { why } else { format!("{title} failed: {why}") };
        let message = match last.len() {
            0 => why,
            _ => format!("{why}\n{}", last.into_iter().collect::<Vec<_>>().join("\n")),
        };
        Err(if by_sources { BuildError::Sources(message) } else { BuildError::Failed(message) })
    }
}

/// Returns true if a build of the same sources would fail again: the Dockerfile is invalid, or a command of it has failed.
/// A command is killed with 137 if the engine stops, and fails if the disk is full. The texts are those of 20.10.24 (the
/// classic builder, then its BuildKit), 28.5.2 and Podman 5.8.6.
fn is_caused_by_sources(error: &str, last: &VecDeque<String>) -> bool {
    const EXIT_CODES: [&str; 2] = ["returned a non-zero code: ", "exit code: "];
    const DISK_FULL: &str = "o space left on device";
    let code = EXIT_CODES.iter().find_map(|text| error.rsplit_once(text)).map(|(_, code)| code.trim());
    let is_disk_full = error.contains(DISK_FULL) || last.iter().any(|line| line.contains(DISK_FULL));
    // The second text is Podman's.
    let is_invalid = error.contains("dockerfile parse error") || error.contains("requires a FROM instruction");
    is_invalid || code.is_some_and(|code| code != "137") && !is_disk_full
}

/// ` ---> 9e071445f168`: the result of a step of the classic builder. Podman also prints the id of the image.
fn is_image_id(line: &str) -> bool {
    let is_id = |id: &str, length| id.len() == length && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    line.strip_prefix(" ---> ").is_some_and(|id| is_id(id, 12)) || is_id(line, 64)
}

/// A line of Podman in the form of the classic builder: `[1/2] STEP 2/3: RUN make`, `--> 9e071445f168` and
/// `--> Using cache` followed by an id.
fn of_podman(line: String) -> String {
    let step = || {
        let rest = match line.split_once("] ") {
            Some((stage, rest)) if stage.starts_with('[') => rest,
            _ => &line,
        };
        let (number, what) = rest.strip_prefix("STEP ")?.split_once(": ")?;
        Some(format!("Step {number} : {what}"))
    };
    let result = || {
        let rest = line.strip_prefix("--> ")?;
        Some(format!(" ---> {}", if rest.starts_with("Using cache ") { "Using cache" } else { rest }))
    };
    step().or_else(result).unwrap_or(line)
}

/// A failure of Podman without the step, which is named anyway, and with the exit code in BuildKit's form:
/// `building at STEP "RUN make": while running runtime: exit status 2`.
fn failure_of_podman(error: String) -> String {
    let Some(failed) = error.strip_prefix("building at STEP ") else { return error };
    match failed.rsplit_once("\": while running runtime: exit status ") {
        Some((_, code)) => format!("exit code: {code}"),
        None => failed.split_once("\": ").map_or(failed, |(_, why)| why).to_owned(),
    }
}

/// `step 2/3 RUN make`, of a step that is shown as one line.
fn title(number: &str, what: &str) -> String {
    format!("step {number} `{}`", what.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A line without terminal escape sequences (the classic builder colours stderr); of text overwritten with carriage
/// returns, only the last.
fn plain(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line;
    while let Some((before, sequence)) = rest.split_once("\u{1b}[") {
        plain += before;
        rest = sequence.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        rest = rest.strip_prefix(|c: char| c.is_ascii_alphabetic()).unwrap_or(rest);
    }
    plain += rest;
    let plain = plain.trim_end();
    let mut plain = plain.rsplit('\r').next().unwrap_or(plain).to_owned();
    truncate(&mut plain, LONGEST_LINE);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the reported lines of these messages, those that name a step with `#`, and the result.
    fn report(messages: &[String]) -> (Vec<String>, Result<(), String>) {
        let (lines, end) = run(messages);
        let message = |error| match error {
            BuildError::Sources(message) | BuildError::Failed(message) => message,
            other => panic!("{other:?}"),
        };
        (lines, end.map_err(message))
    }

    fn run(messages: &[String]) -> (Vec<String>, Result<(), BuildError>) {
        let (mut output, mut lines) = (Output::default(), Vec::new());
        let mut push = |progress| match progress {
            BuildProgress::Alive => {}
            BuildProgress::Step(line) => lines.push(format!("# {line}")),
            BuildProgress::Line(line) => lines.push(line),
        };
        for message in messages {
            output.take(message.as_bytes(), &mut push);
        }
        let end = output.end(push);
        (lines, end)
    }

    fn classic(pieces: &[&str]) -> Vec<String> {
        pieces.iter().map(|piece| serde_json::json!({"stream": piece}).to_string()).collect()
    }

    #[test]
    fn classic_builder_output_is_split_into_lines() {
        let mut messages = classic(&[
            "Step 1/2 : FROM debian",
            "\n",
            " ---> 9e071445f168\n",
            "Step 2/2 : RUN make",
            "\n",
            " ---> Running in c550d8a047e7\n",
        ]);
        messages.push(r#"{"status":"Pulling from library/debian","id":"12"}"#.into());
        messages.push(r#"{"status":"Downloading","progressDetail":{"current":1},"id":"aa"}"#.into());
        messages.extend(classic(&["\u{1b}[91mwarn", "ing\n\u{1b}[0m", "10%\r50%\r100%\n", "the end"]));
        messages.push(r#"{"aux":{"ID":"sha256:4cd5"}}"#.into());
        let (output, end) = report(&messages);
        let lines = [
            "# Step 1/2 : FROM debian",
            "# Step 2/2 : RUN make",
            "12: Pulling from library/debian",
            "warning",
            "100%",
            "the end",
        ];
        assert_eq!((output, end), (lines.map(str::to_owned).to_vec(), Ok(())));
    }

    #[test]
    fn failed_step_is_reported_with_its_last_output() {
        let mut messages =
            classic(&["Step 1/2 : FROM debian\n", " ---> 9e071445f168\n", "Step 2/2 : RUN make   all\n"]);
        messages.extend((0..20).map(|n| serde_json::json!({"stream": format!("line {n}\n")}).to_string()));
        messages.push(r#"{"errorDetail":{"code":2},"error":"The command returned a non-zero code: 2"}"#.into());
        let error = report(&messages).1.unwrap_err();
        let expected = "step 2/2 `RUN make all` failed: The command returned a non-zero code: 2\nline 10\n";
        assert!(error.starts_with(expected) && error.ends_with("\nline 19"), "{error}");
    }

    /// Messages of Podman 5.8.6.
    #[test]
    fn output_of_podman_has_the_form_of_the_classic_builder() {
        let step = r#"building at STEP "RUN echo "a": b; exit 7": while running runtime: exit status 7"#;
        let mut messages = classic(&[
            "[1/2] STEP 1/1: FROM debian AS first\n",
            "--> Using cache 8ee3ea712c162f2be846f5d14f9cabe8ef4fc2655ca62906069e6376cd8e003b\n",
            "--> 8262e94a0543\n",
            "COMMIT docker.io/library/api:1\n",
            "b7ecda84c5b37e1c8bb64c9508b539557a5af95a9699e604641838f5d2e0f79b\n",
            "[2/2] STEP 2/3: RUN echo \"a\": b; exit 7\n",
            "no rule\n",
        ]);
        messages.push(serde_json::json!({"error": format!("{step}\n")}).to_string());
        let (output, end) = run(&messages);
        let lines = [
            "# Step 1/1 : FROM debian AS first",
            " ---> Using cache",
            "# Step 2/3 : RUN echo \"a\": b; exit 7",
            "no rule",
        ];
        assert_eq!(output, lines);
        let Err(BuildError::Sources(message)) = end else { panic!("{end:?}") };
        assert_eq!(message, "step 2/3 `RUN echo \"a\": b; exit 7` failed: exit code: 7\nno rule");
    }

    #[test]
    fn builds_that_would_fail_again_are_told_from_others() {
        for (error, last, by_sources) in [
            ("The command '/bin/sh -c make' returned a non-zero code: 2", "", true),
            ("executor failed running [/bin/sh -c make]: exit code: 2", "", true),
            ("process \"/bin/sh -c make\" did not complete successfully: exit code: 2", "", true),
            ("dockerfile parse error on line 2: unknown instruction: FORM (did you mean FROM?)", "", true),
            ("building at STEP \"RUN make\": while running runtime: exit status 2", "", true),
            ("reading multiple stages: stage 1 requires a FROM instruction (\"\")", "", true),
            ("building at STEP \"RUN make\": while running runtime: exit status 137", "", false),
            ("The command '/bin/sh -c make' returned a non-zero code: 137", "", false),
            ("The command '/bin/sh -c make' returned a non-zero code: 2", "a.o: No space left on device", false),
            ("write /var/lib/docker/tmp/layer: no space left on device", "", false),
            ("Get \"https://registry.example/v2/\": dial tcp: lookup registry.example: no such host", "", false),
        ] {
            let mut messages = classic(&["Step 2/2 : RUN make\n", last, "\n"]);
            messages.push(serde_json::json!({"error": error}).to_string());
            let end = run(&messages).1;
            assert_eq!(matches!(end, Err(BuildError::Sources(_))), by_sources, "{error}: {end:?}");
        }
    }

    #[test]
    fn build_without_a_result_has_failed() {
        assert_eq!(report(&[]).1, Err("the engine ended the build without a word".into()));
        let error = r#"{"error":"dockerfile parse error line 2: unknown instruction: FORM"}"#;
        assert_eq!(report(&[error.into()]).1, Err("dockerfile parse error line 2: unknown instruction: FORM".into()));
    }

    /// Returns a BuildKit message: a step with an additional field, and output.
    fn traced(name: &str, more: &[u8], log: &str) -> String {
        let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
        let vertex = [field(1, name.as_bytes()), field(3, name.as_bytes()), more.to_vec()].concat();
        let mut message = field(1, &vertex);
        if !log.is_empty() {
            message.extend(field(3, &[field(1, name.as_bytes()), field(4, log.as_bytes())].concat()));
        }
        serde_json::json!({"id": "moby.buildkit.trace", "aux": STANDARD.encode(message)}).to_string()
    }

    #[test]
    fn buildkit_messages_are_split_into_lines() {
        let started = [5 << 3 | 2, 0];
        let cached = [4 << 3, 1];
        let messages = [
            traced("[internal] load remote build context", &started, ""),
            traced("[1/2] FROM debian", &cached, ""),
            traced("[2/2] RUN make", &started, "one\ntw"),
            traced("[2/2] RUN make", &started, "o\n"),
            traced("exporting to image", &started, ""),
            r#"{"id":"moby.image.id","aux":{"ID":"sha256:043c"}}"#.into(),
        ];
        let (output, end) = report(&messages);
        assert_eq!(
            (output, end),
            (["# [1/2] is cached", "# [2/2] RUN make", "one", "two"].map(str::to_owned).to_vec(), Ok(()))
        );
    }

    #[test]
    fn failed_buildkit_step_is_reported() {
        let started = [5 << 3 | 2, 0];
        let error = [&[7 << 3 | 2, 12], &b"exit code: 2"[..]].concat();
        let messages = [
            traced("[build 2/3] RUN make", &started, "no rule\nto make it"),
            traced("[build 2/3] RUN make", &error, ""),
            traced("[build 1/3] FROM debian", &started, ""),
            r#"{"errorDetail":{},"error":"process \"make\" did not complete successfully: exit code: 2"}"#.into(),
        ];
        let error = report(&messages).1.unwrap_err();
        assert_eq!(
            error,
            "step build 2/3 `RUN make` failed: process \"make\" did not complete successfully: exit code: 2\nno rule\n\
             to make it"
        );
    }
}
