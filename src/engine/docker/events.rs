//! Events: the subscription, and recent exits.

use jiff::Timestamp;

use super::*;

const EVENTS: &str = "report events";
/// How long Podman gets to send past events, in nanoseconds: it cuts them off at the time up to which they were
/// requested (seen with 5.8.6, which sends 2 of 12 if that is now, and all within 50 ms).
const PODMAN_SENDS_WITHIN: i64 = 500_000_000;

impl Docker {
    pub(super) async fn ended_within(&self, group: &str, span: Duration) -> Result<Vec<ContainerExit>> {
        // With `until` in the engine's future, the response does not end: its clock must be known.
        self.ask_time().await?;
        let now = self.moment_before_now();
        let since = now.saturating_sub(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)).max(0);
        let until = if self.is_podman() { now.saturating_add(PODMAN_SENDS_WITHIN) } else { now };
        let filter = |key: &str, values: &[&str]| (key.to_owned(), values.iter().map(|&v| v.to_owned()).collect());
        let options = query::EventsOptions {
            since: Some(timestamp(since)),
            until: Some(timestamp(until)),
            filters: Some(HashMap::from([
                filter("type", &["container"]),
                filter("event", if self.is_podman() { &["kill", "die", "restart", "start"] } else { &["kill", "die"] }),
                filter("label", &[&format!("{}={group}", identity::GROUP)]),
            ])),
        };
        let fault = |error| self.fault("say what ended lately", error);
        let events: Vec<EventMessage> = self.client.events(Some(options)).try_collect().await.map_err(fault)?;
        match self.is_podman() {
            true => self.past_exits(events, group, now).await.map_err(fault),
            false => Ok(convert::ends(events, group, now)),
        }
    }

    async fn ask_time(&self) -> Result<()> {
        let info = self.client.info().await.map_err(|error| self.fault("tell its time", error))?;
        if let Some(ahead) = info.system_time.as_deref().and_then(clock_difference) {
            self.clock.store(ahead, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The time from which to subscribe so that no event is missed, in nanoseconds since the Unix epoch by the engine's
    /// clock. An engine sends the response head just before it subscribes; `since` closes that gap. An earlier time is
    /// harmless, because events are only hints.
    pub(super) fn moment_before_now(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        now.saturating_add(self.clock.load(Ordering::Relaxed)).max(0)
    }

    pub(super) fn subscribe<'a>(&'a self, group: &'a str) -> EngineStream<'a, EngineEvent> {
        let (heard, head) = oneshot::channel();
        let client = match client(&self.wire, Some(heard)) {
            Ok(client) => client,
            Err(error) => return stream::iter([Err(self.fault(EVENTS, error))]).boxed(),
        };
        let kinds = ["container", "network"].map(str::to_owned).to_vec();
        let options = query::EventsOptions {
            since: Some(timestamp(self.moment_before_now())),
            // A label filter would apply to both types, and network events carry no labels.
            filters: Some(HashMap::from([("type".into(), kinds)])),
            ..Default::default()
        };
        let events = client.events(Some(options)).boxed();
        let subscription = Subscription {
            events,
            head: Some(head),
            first: None,
            repeats: convert::podman::Repeats::default(),
            restarts: convert::podman::Restarts::default(),
            next: None,
        };
        stream::unfold(Some(subscription), move |subscription| async move {
            subscription?.next(self, group).await.map(|(item, rest)| (item, Some(rest)))
        })
        .boxed()
    }
}

type Events = BoxStream<'static, std::result::Result<EventMessage, BollardError>>;

/// A stream of events; the first item is [`EngineEvent::Subscribed`].
struct Subscription {
    events: Events,
    /// Resolves when the response head has arrived; `None` once `Subscribed` was yielded.
    head: Option<oneshot::Receiver<()>>,
    /// An event that arrived with the head.
    first: Option<EventMessage>,
    /// Podman only.
    repeats: convert::podman::Repeats,
    /// Podman only.
    restarts: convert::podman::Restarts,
    /// What follows the last event.
    next: Option<EngineEvent>,
}

impl Subscription {
    async fn next(mut self, engine: &Docker, group: &str) -> Option<(Result<EngineEvent>, Subscription)> {
        if let Some(head) = self.head.take() {
            let begun = self.begin(head).await?;
            return Some((begun.map_err(|error| engine.fault(EVENTS, error)), self));
        }
        if let Some(event) = self.next.take() {
            return Some((Ok(event), self));
        }
        loop {
            let event = match self.first.take() {
                Some(event) => Ok(event),
                None => self.events.next().await?,
            };
            let mut event = match event {
                Ok(event) => event,
                Err(error) => return Some((Err(engine.fault(EVENTS, error)), self)),
            };
            if engine.is_podman() && self.repeats.is_repeat(&event) {
                continue;
            }
            let restarted = engine.is_podman() && self.restarts.is_exit(&event);
            if engine.is_podman() {
                convert::podman::adapt_event(&mut event);
            }
            let Some(event) = convert::event(event, group) else { continue };
            let event = match event {
                EngineEvent::Container { id, what: ContainerEvent::Died { code } }
                    if engine.is_podman() && (restarted || engine.was_stopped(&id, code).await) =>
                {
                    self.next = Some(EngineEvent::Container { id: id.clone(), what: ContainerEvent::Died { code } });
                    EngineEvent::Container { id, what: ContainerEvent::Killed }
                }
                event => event,
            };
            return Some((Ok(event), self));
        }
    }

    async fn begin(&mut self, head: oneshot::Receiver<()>) -> Option<std::result::Result<EngineEvent, BollardError>> {
        tokio::select! {
            biased;
            // Cancel-safe: the receiver is not polled again if an event came first.
            Ok(()) = head => {}
            // Cancel-safe: the stream is kept in `self`. It must be polled for the request to be sent.
            event = self.events.next() => match event? {
                Ok(event) => self.first = Some(event),
                Err(error) => return Some(Err(error)),
            },
        }
        Some(Ok(EngineEvent::Subscribed))
    }
}

/// How far the engine's clock is ahead, in nanoseconds; a lower bound, because the response took time to arrive.
pub(super) fn clock_difference(engine: &str) -> Option<i64> {
    let ahead = convert::timestamp(engine)?.duration_since(Timestamp::now());
    i64::try_from(ahead.as_nanos()).ok()
}

/// A time in the form of the events API.
fn timestamp(nanoseconds: i64) -> String {
    format!("{}.{:09}", nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000)
}
