//! Image builds: sends the context and reads the progress.
//!
//! Uses our own connection instead of bollard, which needs a gRPC stack to decode BuildKit's progress. Both builders
//! take the context as a tar archive in the body of one request, and cancel the build when the connection closes.
//! Decides nothing.

mod ignore;
mod output;
mod pack;
mod trace;
pub mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use http_body_util::{BodyExt, Either, StreamBody};
use hyper::header::{CONTENT_TYPE, HeaderName};
use hyper::{Method, Request};
use serde_json::{Value, json};

use self::output::Output;
use self::pack::Why;
use self::tree::{ContextPaths, Files};
use super::transport::{Body, Wire, WireError};
use super::{BuildProgress, BuildRequest};
use crate::spec::build::Dockerfile;

/// Credentials for the registries of base images.
const CREDENTIALS: HeaderName = HeaderName::from_static("x-registry-config");
/// Header of a ping response: the engine's default builder.
const BUILDER: &str = "builder-version";

/// A builder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Builder {
    /// The classic builder, which every supported engine has.
    Classic,
    /// BuildKit.
    BuildKit,
}

/// Why a build failed.
#[derive(Debug)]
pub(super) enum BuildError {
    /// The connection to the engine failed.
    Wire(WireError),
    /// The files changed or cannot be read; a message for the user.
    Files(String),
    /// A build of the same sources would fail again; a message for the user.
    Sources(String),
    /// The engine could not build; a message for the user.
    Failed(String),
}

impl From<WireError> for BuildError {
    fn from(error: WireError) -> Self {
        BuildError::Wire(error)
    }
}

impl From<hyper::Error> for BuildError {
    fn from(error: hyper::Error) -> Self {
        BuildError::Wire(error.into())
    }
}

/// Queries the engine's default builder.
pub(super) async fn preferred(wire: &Arc<Wire>) -> Result<Builder, BuildError> {
    let mut ping = Request::new(Either::Left(Default::default()));
    *ping.uri_mut() = hyper::Uri::from_static("/_ping");
    let response = wire.clone().send(ping).await?;
    let offered = response.headers().get(BUILDER).is_some_and(|version| version.as_bytes() == b"2");
    // Read to the end so that the connection can be reused.
    response.into_body().collect().await?;
    Ok(if offered { Builder::BuildKit } else { Builder::Classic })
}

/// Registries named by a Dockerfile, as keys of Docker's `config.json`.
pub(super) fn registries(dockerfile: &str) -> BTreeSet<String> {
    let mut stages = BTreeSet::new();
    let mut registries = BTreeSet::new();
    for line in dockerfile.lines() {
        let mut words = line.split_whitespace();
        if !words.next().is_some_and(|word| word.eq_ignore_ascii_case("FROM")) {
            continue;
        }
        let mut words = words.skip_while(|word| word.starts_with("--"));
        let Some(image) = words.next() else { continue };
        if !(image.contains('$') || image == "scratch" || stages.contains(image)) {
            registries.insert(super::registry::Reference::parse(image).credentials_key().to_owned());
        }
        stages.extend(words.nth(1));
    }
    registries
}

/// Builds an image and reports progress. `credentials` are by registry, in the form of the API.
pub(super) async fn build(
    wire: &Arc<Wire>,
    builder: Builder,
    request: &BuildRequest,
    credentials: &BTreeMap<String, Value>,
    progress: &(dyn Fn(BuildProgress) + Send + Sync),
) -> Result<(), BuildError> {
    let tree = &request.build.tree;
    let dockerfile = tree.dockerfile.clone().map(PathBuf::from);
    let paths = ContextPaths { context: tree.context.clone().into(), dockerfile };
    let (paths, files) = find(paths).await?;
    let name = pack::dockerfile_name(&files);
    let (alive, mut sent) = tokio::sync::watch::channel(());
    let hides = builder == Builder::Classic;
    let packing = pack::pack(paths, files, tree.digest.clone(), hides, move || _ = alive.send(()));
    let mut post = Request::new(Either::Right(StreamBody::new(packing.body)));
    *post.method_mut() = Method::POST;
    *post.uri_mut() = address(builder, request, &name)?;
    post.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/x-tar"));
    if !credentials.is_empty() {
        let encoded = URL_SAFE.encode(json!(credentials).to_string());
        if let Ok(value) = hyper::header::HeaderValue::try_from(encoded) {
            post.headers_mut().insert(CREDENTIALS, value);
        }
    }
    let answered = answer(wire, post, progress);
    tokio::pin!(answered);
    let answered = loop {
        tokio::select! {
            // Cancel-safe: the next iteration polls it again.
            answered = &mut answered => break answered,
            // Cancel-safe: only the last value counts, and none follows the end of packing.
            Ok(()) = sent.changed() => progress(BuildProgress::Alive),
        }
    };
    match (answered, packing.task.await) {
        (Ok(()), _) => Ok(()),
        // The engine only says that the archive is broken.
        (Err(_), Ok(Err(Why::Files(why)))) => Err(BuildError::Files(why)),
        (Err(trouble), _) => Err(trouble),
    }
}

async fn find(paths: ContextPaths) -> Result<(ContextPaths, Files), BuildError> {
    let found = tokio::task::spawn_blocking(move || pack::files(&paths).map(|files| (paths, files))).await;
    found.map_err(|error| BuildError::Files(error.to_string()))?.map_err(BuildError::Files)
}

fn address(builder: Builder, request: &BuildRequest, dockerfile: &str) -> Result<hyper::Uri, BuildError> {
    let BuildRequest { image, build, labels } = request;
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("t", image).append_pair("dockerfile", dockerfile);
    match builder {
        Builder::Classic => query.extend_pairs([("version", "1"), ("rm", "1"), ("forcerm", "1")]),
        Builder::BuildKit => query.append_pair("version", "2"),
    };
    if let Some(target) = &build.target {
        query.append_pair("target", target);
    }
    if let Some(platform) = &build.platform {
        query.append_pair("platform", platform);
    }
    if !build.args.is_empty() {
        query.append_pair("buildargs", &json!(build.args).to_string());
    }
    query.append_pair("labels", &json!(labels).to_string());
    let address = format!("/build?{}", query.finish());
    hyper::Uri::try_from(address).map_err(|error| BuildError::Sources(format!("its options cannot be sent: {error}")))
}

/// Sends the request and reads the response to its end.
async fn answer(
    wire: &Arc<Wire>,
    post: Request<Body>,
    progress: &(dyn Fn(BuildProgress) + Send + Sync),
) -> Result<(), BuildError> {
    let response = wire.clone().send(post).await?;
    let status = response.status();
    let mut body = response.into_body();
    if !status.is_success() {
        let body = body.collect().await?.to_bytes();
        let said = serde_json::from_slice::<Value>(&body).ok();
        let message = said.as_ref().and_then(|said| said.get("message")).and_then(Value::as_str);
        let message = message.map_or_else(|| format!("the engine answered {status}"), str::to_owned);
        let is_invalid = status == hyper::StatusCode::BAD_REQUEST;
        return Err(if is_invalid { BuildError::Sources(message) } else { BuildError::Failed(message) });
    }
    let mut output = Output::default();
    let mut unfinished: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        progress(BuildProgress::Alive);
        let Ok(piece) = frame?.into_data() else { continue };
        let mut pieces = piece.split(|byte| *byte == b'\n');
        unfinished.extend_from_slice(pieces.next().unwrap_or_default());
        for piece in pieces {
            output.take(&unfinished, progress);
            unfinished.clear();
            unfinished.extend_from_slice(piece);
        }
    }
    output.take(&unfinished, progress);
    output.end(progress)
}

/// Reads a Dockerfile, which may have been removed meanwhile, for the registries that it names.
pub(super) async fn dockerfile(dockerfile: &Dockerfile) -> String {
    let path = match dockerfile.clone() {
        Dockerfile::File(path) => path,
        Dockerfile::Inline(text) => return text,
    };
    let text = tokio::task::spawn_blocking(move || std::fs::read(path).unwrap_or_default()).await;
    String::from_utf8_lossy(&text.unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_those_of_base_images_except_stages() {
        let text = "# FROM x\nfrom --platform=linux/amd64 ghcr.io/a/b:1 AS base\nFROM base\nFROM $IMAGE\nFROM scratch\n\
                    FROM debian AS other\nRUN echo FROM\n";
        let expected = ["ghcr.io", "https://index.docker.io/v1/"];
        assert_eq!(registries(text), expected.map(str::to_owned).into());
    }
}
