//! Executor: runs an [`Execution`] against the engine, or as a command, a function or a request. Decides nothing.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::context::ExecContext;
use super::hooks::{self, HookCall};
use super::outputs::{self, OutputMap};
use super::translate::Execution;
use crate::control::error::{HookError, OutputError, StepError};
use crate::control::event::{BuildOutput, Event};
use crate::engine::{BuildProgress, BuildRequest, Engine, LogLine};

/// Event name under which the output of a build is reported, as that of a hook is under its hook point.
const BUILD: &str = "build";
/// Lines of output that are not handled yet, over all hooks and builds; long ones count once for each [`LINE_SIZE`] bytes.
/// More are omitted: a hook may print faster than its output can be shown.
pub(super) const MAX_PENDING_LINES: usize = 1024;
const LINE_SIZE: usize = 1024;

/// Everything that executions share. Clones are cheap.
#[derive(Clone)]
pub(super) struct Executor {
    pub engine: Arc<dyn Engine>,
    pub context: ExecContext,
    /// Receives progress and output. A closed receiver means that the run is over.
    pub events: UnboundedSender<Event>,
    /// The specs may use outputs, and are read again when one changes.
    pub outputs_matter: bool,
    /// Permits for lines of output that are not handled yet.
    pub lines: Arc<Semaphore>,
}

impl Executor {
    /// Runs the execution to its end and returns the id of what it created. `cancelled` ends hooks and builds.
    ///
    /// # Errors
    ///
    /// [`StepError::Obsolete`] for a build that was cancelled; otherwise the failure of the engine, the hook or its
    /// outputs.
    pub async fn run_step(
        &self,
        execution: Execution,
        cancelled: &CancellationToken,
    ) -> Result<Option<String>, StepError> {
        match execution {
            Execution::Engine(mutation) => return Ok(self.engine.apply(&mutation).await?),
            Execution::Pull { image, platform } => self.pull(&image, platform.as_deref()).await?,
            Execution::Build { service, request } => self.build(&service, &request, cancelled).await?,
            Execution::Hook(call) => self.run_hook(&call, cancelled).await?,
            Execution::Collect { container, capture } => {
                let collected = outputs::collect(self.engine.as_ref(), &container, capture.as_deref()).await?;
                self.save_outputs(collected)?;
            }
        }
        Ok(None)
    }

    async fn pull(&self, image: &str, platform: Option<&str>) -> Result<(), StepError> {
        let progress = |progress| self.send(Event::Pulling(image.to_owned(), progress));
        Ok(self.engine.pull(image, platform, &progress).await?)
    }

    async fn build(
        &self,
        service: &str,
        request: &BuildRequest,
        cancelled: &CancellationToken,
    ) -> Result<(), StepError> {
        let reporter =
            Mutex::new(LineReporter::new(self, Some(service.to_owned()), BUILD, Some(request.image.clone())));
        let report = |line, is_step| reporter.lock().unwrap_or_else(PoisonError::into_inner).report(line, is_step);
        let progress = |progress| match progress {
            BuildProgress::Step(line) => report(line, true),
            BuildProgress::Line(line) => report(line, false),
            BuildProgress::Alive => {}
        };
        let built = cancelled.run_until_cancelled(self.engine.build(request, &progress)).await;
        Ok(built.ok_or(StepError::Obsolete)??)
    }

    /// Runs a hook, reports its output line by line, and saves the outputs that it sets.
    pub async fn run_hook(&self, call: &HookCall, cancelled: &CancellationToken) -> Result<(), HookError> {
        let mut reporter = LineReporter::new(self, call.instance(), &call.event, None);
        let mut on_line = |line: LogLine| reporter.report(line.text, false);
        let outputs = hooks::run(self.engine.as_ref(), call, &self.context, cancelled, &mut on_line).await?;
        Ok(self.save_outputs(outputs)?)
    }

    /// Saves outputs, and requests that the specs are read again if any changed. Must happen before the step is
    /// reported as done, so that no container is created from an older value.
    fn save_outputs(&self, outputs: OutputMap) -> Result<(), OutputError> {
        let changed = self.context.outputs.save(outputs).map_err(|error| OutputError::Save(error.to_string()))?;
        if changed && self.outputs_matter {
            self.send(Event::OutputsChanged);
        }
        Ok(())
    }

    pub fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

/// Reports the output of a hook or a build line by line. Lines are omitted while too many are pending.
struct LineReporter<'a> {
    executor: &'a Executor,
    service: Option<String>,
    event: &'a str,
    /// The image that is built; `None` for a hook.
    image: Option<String>,
    omitted: usize,
}

impl<'a> LineReporter<'a> {
    fn new(executor: &'a Executor, service: Option<String>, event: &'a str, image: Option<String>) -> LineReporter<'a> {
        LineReporter { executor, service, event, image, omitted: 0 }
    }

    /// Reports a line. `is_step`: it names a step of the build.
    fn report(&mut self, line: String, is_step: bool) {
        let permits = u32::try_from((1 + line.len() / LINE_SIZE).min(MAX_PENDING_LINES)).unwrap_or(1);
        match self.executor.lines.clone().try_acquire_many_owned(permits) {
            Ok(permit) => {
                self.report_omitted();
                self.send(line, is_step, Some(permit));
            }
            Err(_) => self.omitted += 1,
        }
    }

    fn report_omitted(&mut self) {
        if self.omitted > 0 {
            self.send(format!("… {} lines omitted", self.omitted), false, None);
            self.omitted = 0;
        }
    }

    fn send(&self, line: String, is_step: bool, permit: Option<OwnedSemaphorePermit>) {
        let build = self.image.clone().map(|image| BuildOutput { image, is_step });
        let (service, event) = (self.service.clone(), self.event.to_owned());
        self.executor.send(Event::HookOutput { service, event, line, build, permit });
    }
}

impl Drop for LineReporter<'_> {
    fn drop(&mut self) {
        self.report_omitted();
    }
}
