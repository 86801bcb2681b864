//! Events: the subscription, and exits of the recent past.

use jiff::Timestamp;

use super::*;

const EVENTS: &str = "report events";

impl Docker {
    pub(super) async fn ended_within(&self, group: &str, span: Duration) -> Result<Vec<ContainerExit>> {
        // The engine waits for a moment that lies in its future, so its clock has to be known.
        self.ask_about().await?;
        let now = self.moment_before_now();
        let since = now.saturating_sub(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)).max(0);
        let filter = |key: &str, values: &[&str]| (key.to_owned(), values.iter().map(|&v| v.to_owned()).collect());
        let options = query::EventsOptions {
            since: Some(timestamp(since)),
            until: Some(timestamp(now)),
            filters: Some(HashMap::from([
                filter("type", &["container"]),
                filter("event", &["kill", "die"]),
                filter("label", &[&format!("{}={group}", identity::GROUP)]),
            ])),
        };
        let events: Vec<EventMessage> = self
            .client
            .events(Some(options))
            .try_collect()
            .await
            .map_err(|error| self.fault("say what ended lately", error))?;
        Ok(convert::ends(events, group, now))
    }

    /// Where to begin with events so that none is missed, in nanoseconds since 1970 by the engine's clock. An engine
    /// sends the head of its response just before it subscribes, so the head alone leaves a gap; what happened in it is
    /// repeated from this moment on. Too early does no harm, for an event is but a hint.
    fn moment_before_now(&self) -> i64 {
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
            // A label filter would hold for both kinds, and events of networks carry no labels.
            filters: Some(HashMap::from([("type".into(), kinds)])),
            ..Default::default()
        };
        let events = client.events(Some(options)).boxed();
        let subscription = Subscription { events, head: Some(head), first: None };
        stream::unfold(Some(subscription), move |subscription| async move {
            subscription?.next(self, group).await.map(|(item, rest)| (item, Some(rest)))
        })
        .boxed()
    }
}

type Events = BoxStream<'static, std::result::Result<EventMessage, BollardError>>;

/// A stream of events whose first item says that it has begun.
struct Subscription {
    events: Events,
    /// Told when the head of the response has come; `None`: that was said.
    head: Option<oneshot::Receiver<()>>,
    /// An event that came with the head.
    first: Option<EventMessage>,
}

impl Subscription {
    async fn next(mut self, engine: &Docker, group: &str) -> Option<(Result<EngineEvent>, Subscription)> {
        if let Some(head) = self.head.take() {
            let begun = self.begin(head).await?;
            return Some((begun.map_err(|error| engine.fault(EVENTS, error)), self));
        }
        loop {
            let event = match self.first.take() {
                Some(event) => Ok(event),
                None => self.events.next().await?,
            };
            match event.map(|event| convert::event(event, group)) {
                Ok(None) => {}
                Ok(Some(event)) => return Some((Ok(event), self)),
                Err(error) => return Some((Err(engine.fault(EVENTS, error)), self)),
            }
        }
    }

    async fn begin(&mut self, head: oneshot::Receiver<()>) -> Option<std::result::Result<EngineEvent, BollardError>> {
        tokio::select! {
            biased;
            // Cancel-safe because it is looked at no more when an event was first.
            Ok(()) = head => {}
            // Cancel-safe because the stream lives on in `self`. It has to be polled for the request to be sent.
            event = self.events.next() => match event? {
                Ok(event) => self.first = Some(event),
                Err(error) => return Some(Err(error)),
            },
        }
        Some(Ok(EngineEvent::Subscribed))
    }
}

/// How far the engine's clock is ahead, in nanoseconds: at least, since its answer took a while to come.
pub(super) fn clock_difference(engine: &str) -> Option<i64> {
    let ahead = convert::timestamp(engine)?.duration_since(Timestamp::now());
    i64::try_from(ahead.as_nanos()).ok()
}

/// A moment as requests for events take it.
fn timestamp(nanoseconds: i64) -> String {
    format!("{}.{:09}", nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000)
}
