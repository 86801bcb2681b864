//! Decorators of an engine: a [`Layer`] wraps every call of the engine below it in one place.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    BuildProgress, BuildRequest, ContainerExit, Engine, EngineEvent, EngineFuture, EngineInfo, EngineStream, Exec,
    LabeledVolume, LogLine, LogOptions, Mutation, Processes, PullProgress, short,
};
use crate::observed::{Container, ImageFacts, Observed};

/// A call of an [`Engine`].
#[derive(Debug, Clone, Copy)]
pub enum Call<'a> {
    /// [`Engine::about`].
    About,
    /// [`Engine::list`].
    List,
    /// [`Engine::inspect`], with the id.
    Inspect(&'a str),
    /// [`Engine::image`], with the reference.
    Image(&'a str),
    /// [`Engine::apply`].
    Apply(&'a Mutation),
    /// [`Engine::volumes`].
    Volumes,
    /// [`Engine::create_volume`], with the name.
    CreateVolume(&'a str),
    /// [`Engine::pull`], with the reference.
    Pull(&'a str),
    /// [`Engine::read`], with the id and the path.
    Read(&'a str, &'a str),
    /// [`Engine::build`].
    Build(&'a BuildRequest),
    /// [`Engine::exec`], with the id of the container.
    Exec(&'a str, &'a Exec),
    /// [`Engine::top`], with the id.
    Top(&'a str),
    /// [`Engine::logs`], with the id.
    Logs(&'a str, LogOptions),
    /// [`Engine::recent_exits`].
    RecentExits,
    /// [`Engine::events`].
    Events,
}

impl Call<'_> {
    /// The call in words, as used in errors: `start container 3f2a91bc77d0`.
    pub fn describe(&self) -> String {
        match self {
            Call::About => "say what it is".into(),
            Call::List => "list what it has".into(),
            Call::Inspect(id) => format!("inspect container {}", short(id)),
            Call::Image(reference) => format!("inspect image {reference}"),
            Call::Apply(mutation) => mutation.describe(),
            Call::Volumes => "list volumes".into(),
            Call::CreateVolume(name) => format!("create volume {name}"),
            Call::Pull(image) => format!("pull {image}"),
            Call::Read(id, path) => format!("read {path} in container {}", short(id)),
            Call::Build(request) => format!("build {}", request.image),
            Call::Exec(id, _) => format!("run a command in container {}", short(id)),
            Call::Top(id) => format!("list the processes of container {}", short(id)),
            Call::Logs(id, _) => format!("give the output of container {}", short(id)),
            Call::RecentExits => "say what ended lately".into(),
            Call::Events => "report events".into(),
        }
    }
}

/// An engine that wraps another. A type that implements [`Layer::call`] and [`Layer::stream`] is an [`Engine`].
pub trait Layer: Send + Sync {
    /// The wrapped engine.
    fn inner(&self) -> &dyn Engine;

    /// Makes a call with one result.
    fn call<'a, T: Send + 'static>(&'a self, call: Call<'a>, result: EngineFuture<'a, T>) -> EngineFuture<'a, T>;

    /// Opens a stream.
    fn stream<'a, T: Send + 'static>(
        &'a self,
        call: Call<'a>,
        open: impl FnOnce() -> EngineStream<'a, T> + Send + 'a,
    ) -> EngineStream<'a, T>;

    /// Pulls an image.
    fn pull_image<'a>(
        &'a self,
        image: &'a str,
        platform: Option<&'a str>,
        progress: &'a (dyn Fn(PullProgress) + Send + Sync),
    ) -> EngineFuture<'a, ()> {
        self.call(Call::Pull(image), self.inner().pull(image, platform, progress))
    }

    /// Builds an image.
    fn build_image<'a>(
        &'a self,
        request: &'a BuildRequest,
        progress: &'a (dyn Fn(BuildProgress) + Send + Sync),
    ) -> EngineFuture<'a, ()> {
        self.call(Call::Build(request), self.inner().build(request, progress))
    }
}

impl<L: Layer> Engine for L {
    fn about(&self) -> EngineFuture<'_, EngineInfo> {
        self.call(Call::About, self.inner().about())
    }

    fn list<'a>(&'a self, group: &'a str, volumes: bool) -> EngineFuture<'a, Observed> {
        self.call(Call::List, self.inner().list(group, volumes))
    }

    fn inspect<'a>(&'a self, id: &'a str) -> EngineFuture<'a, Option<Container>> {
        self.call(Call::Inspect(id), self.inner().inspect(id))
    }

    fn image<'a>(&'a self, reference: &'a str) -> EngineFuture<'a, Option<ImageFacts>> {
        self.call(Call::Image(reference), self.inner().image(reference))
    }

    fn apply<'a>(&'a self, mutation: &'a Mutation) -> EngineFuture<'a, Option<String>> {
        self.call(Call::Apply(mutation), self.inner().apply(mutation))
    }

    fn volumes<'a>(&'a self, label: &'a str, value: &'a str) -> EngineFuture<'a, Vec<LabeledVolume>> {
        self.call(Call::Volumes, self.inner().volumes(label, value))
    }

    fn create_volume<'a>(
        &'a self,
        name: &'a str,
        labels: &'a BTreeMap<String, String>,
    ) -> EngineFuture<'a, BTreeMap<String, String>> {
        self.call(Call::CreateVolume(name), self.inner().create_volume(name, labels))
    }

    fn pull<'a>(
        &'a self,
        image: &'a str,
        platform: Option<&'a str>,
        progress: &'a (dyn Fn(PullProgress) + Send + Sync),
    ) -> EngineFuture<'a, ()> {
        Layer::pull_image(self, image, platform, progress)
    }

    fn read<'a>(&'a self, id: &'a str, path: &'a str, limit: usize) -> EngineFuture<'a, Option<Vec<u8>>> {
        self.call(Call::Read(id, path), self.inner().read(id, path, limit))
    }

    fn build<'a>(
        &'a self,
        request: &'a BuildRequest,
        progress: &'a (dyn Fn(BuildProgress) + Send + Sync),
    ) -> EngineFuture<'a, ()> {
        Layer::build_image(self, request, progress)
    }

    fn exec<'a>(
        &'a self,
        id: &'a str,
        exec: &'a Exec,
        on_line: &'a mut (dyn FnMut(LogLine) + Send),
    ) -> EngineFuture<'a, i64> {
        self.call(Call::Exec(id, exec), self.inner().exec(id, exec, on_line))
    }

    fn top<'a>(&'a self, id: &'a str) -> EngineFuture<'a, Processes> {
        self.call(Call::Top(id), self.inner().top(id))
    }

    fn logs<'a>(&'a self, id: &'a str, options: LogOptions) -> EngineStream<'a, LogLine> {
        self.stream(Call::Logs(id, options), move || self.inner().logs(id, options))
    }

    fn recent_exits<'a>(&'a self, group: &'a str, span: Duration) -> EngineFuture<'a, Vec<ContainerExit>> {
        self.call(Call::RecentExits, self.inner().recent_exits(group, span))
    }

    fn events<'a>(&'a self, group: &'a str) -> EngineStream<'a, EngineEvent> {
        self.stream(Call::Events, move || self.inner().events(group))
    }
}
