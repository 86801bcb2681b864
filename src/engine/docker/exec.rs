//! Exec in containers, and output line by line.

use backon::{ExponentialBuilder, Retryable};

use super::*;

impl Docker {
    pub(super) async fn run(&self, id: &str, exec: &Exec, heard: &mut (dyn FnMut(LogLine) + Send)) -> Result<i64> {
        let attempted = format!("run a command in container {}", short(id));
        self.run_to_the_end(id, exec, heard).await.map_err(|error| self.fault(&attempted, error))
    }

    async fn run_to_the_end(
        &self,
        id: &str,
        exec: &Exec,
        heard: &mut (dyn FnMut(LogLine) + Send),
    ) -> std::result::Result<i64, BollardError> {
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(exec.command.clone()),
            env: Some(exec.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            ..Default::default()
        };
        let exec = self.client.create_exec(id, options).await?.id;
        // Output kept open by a child that outlives the command is closed by the engine after 2 s.
        if let StartExecResults::Attached { mut output, .. } = self.client.start_exec(&exec, None).await? {
            let mut lines = Lines::default();
            let mut hear = |line: LogLine| match self.is_podman() {
                true => {
                    let text = convert::podman::exec_line(line.text);
                    text.into_iter().for_each(|text| heard(LogLine { text, ..line }));
                }
                false => heard(line),
            };
            while let Some(piece) = output.next().await {
                pieces(&mut lines, &piece?).into_iter().for_each(&mut hear);
            }
            lines.rest().into_iter().for_each(&mut hear);
        }
        self.exit_code(&exec).await
    }

    /// Starts an attached exec; with `tty` it has a terminal.
    pub async fn attach(&self, id: &str, command: &[String], tty: bool) -> Result<Attached> {
        let attempted = format!("run {} in container {}", command.join(" "), short(id));
        let begin = async {
            let options = CreateExecOptions {
                attach_stdin: Some(true),
                attach_stdout: Some(true),
                attach_stderr: Some(true),
                tty: Some(tty),
                cmd: Some(command.to_vec()),
                ..Default::default()
            };
            let exec = self.client.create_exec(id, options).await?.id;
            let started = self.client.start_exec(&exec, None::<StartExecOptions>).await?;
            Ok((exec, started))
        };
        let begin = async { begin.await.map_err(|error| self.fault(&attempted, error)) };
        match within(Limits::default().change, || attempted.clone(), begin).await? {
            (exec, StartExecResults::Attached { output, input }) => {
                let endpoint = self.endpoint.clone();
                let output = output.map(move |piece| match piece {
                    Ok(piece) => Ok((matches!(piece, LogOutput::StdErr { .. }), piece.into_bytes().to_vec())),
                    Err(error) => Err(fault(&endpoint, &attempted, error)),
                });
                Ok(Attached { exec, output: output.boxed(), input })
            }
            (_, StartExecResults::Detached) => {
                Err(EngineError::Refused { attempted, message: "its output was not attached".into() })
            }
        }
    }

    /// Resizes the terminal of an attached exec.
    pub async fn resize(&self, exec: &str, rows: u16, columns: u16) -> Result<()> {
        let attempted = || "resize the terminal of a command".to_owned();
        let resize = async {
            let options = ResizeExecOptions { height: rows, width: columns };
            self.client.resize_exec(exec, options).await.map_err(|error| self.fault(&attempted(), error))
        };
        within(Limits::default().change, attempted, resize).await
    }

    /// The exit code of an attached exec whose output has ended.
    pub async fn ended_with(&self, exec: &str) -> Result<i64> {
        let attempted = || "read the exit code of a command".to_owned();
        let code = async { self.exit_code(exec).await.map_err(|error| self.fault(&attempted(), error)) };
        within(Limits::default().change, attempted, code).await
    }

    /// The exit code of an exec whose output has ended, polled: the engine notices the exit shortly after the end of
    /// output, and a program may close its output and keep running.
    async fn exit_code(&self, exec: &str) -> std::result::Result<i64, BollardError> {
        let poll = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(2))
            .with_max_delay(Duration::from_millis(200))
            .without_max_times();
        let inspect = || async {
            let found = self.client.inspect_exec(exec).await.map_err(Some)?;
            found.exit_code.filter(|_| found.running == Some(false)).ok_or(None)
        };
        let still_running = Option::is_none;
        // An error ends the poll; otherwise it continues until there is an exit code.
        inspect
            .retry(poll)
            .when(still_running)
            .await
            .map_err(|error| error.unwrap_or(BollardError::RequestTimeoutError))
    }
}

pub(super) fn pieces(lines: &mut Lines, piece: &LogOutput) -> Vec<LogLine> {
    lines.take(is_stderr(piece), piece.as_ref())
}

pub(super) fn is_stderr(piece: &LogOutput) -> bool {
    matches!(piece, LogOutput::StdErr { .. })
}
