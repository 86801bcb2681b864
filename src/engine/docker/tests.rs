use super::*;

#[test]
fn api_version_is_negotiated() {
    assert_eq!(agree("20.10.24", "1.41"), Ok(ApiVersion(1, 41)));
    assert_eq!(agree("29.0.0", "1.52"), Ok(ApiVersion(1, 52)));
    assert_eq!(agree("40.0.0", "1.99"), Ok(ApiVersion(1, 53)));
    let old = agree("19.03.15", "1.40").unwrap_err();
    assert_eq!(old, "Docker 19.03.15 speaks API 1.40; Docker 20.10 (API 1.41) or later is needed");
    assert!(agree("of unknown version", "").unwrap_err().contains("is it a Docker engine?"));
}

#[test]
fn already_achieved_mutation_is_not_an_error() {
    let error =
        |status_code, message: &str| BollardError::DockerResponseServerError { status_code, message: message.into() };
    let id = "3f2a91bc77d0".repeat(5) + "3f2a";
    let network = "0123456789ab".repeat(5) + "0123";
    let remove = Mutation::Remove { id: id.clone(), volumes: false };
    assert!(reached(&remove, &error(404, "No such container: x")));
    assert!(reached(&remove, &error(409, "removal of container x is already in progress")));
    assert!(!reached(&remove, &error(500, "device busy")));
    assert!(reached(&remove, &error(500, "no container with ID 3f found in database: no such container")));
    assert!(!reached(&Mutation::Start(id.clone()), &error(404, "No such container: x")));
    let by_id = Mutation::Disconnect { network: network.clone(), container: id.clone() };
    assert!(reached(&by_id, &error(500, "container x is not connected to network shop")));
    let gone = format!("container x is not connected to the network {network}");
    assert!(!reached(&by_id, &error(500, &gone)), "the network may be attached by name");
    let by_name = Mutation::Disconnect { network: "shop".into(), container: id };
    assert!(reached(&by_name, &error(500, "container x is not connected to the network shop")));
}

/// Messages of Podman 5.8.6.
#[test]
fn podman_errors_have_docker_form() {
    let fault = |message: &str| {
        let error = BollardError::DockerResponseServerError { status_code: 500, message: message.into() };
        super::fault(&Endpoint::Unix("/run/podman.sock".into()), "do it", error)
    };
    let lost = fault("unable to find network with name or ID shop-net: network not found");
    assert!(matches!(lost, EngineError::NotFound { .. }), "{lost:?}");
    for conflict in [
        "container create: creating container storage: the container name \"shop-api\" is already in use by 0cefacabe277. \
         You have to remove that container to be able to reuse that name: that name is already in use",
        "can only create exec sessions on running containers: container state improper",
    ] {
        let error = fault(conflict);
        assert!(matches!(error, EngineError::Conflict { .. }), "{error:?}");
    }
    let other = fault("container 59467997 is running or paused, refusing to clean up: container state improper");
    assert!(matches!(other, EngineError::Refused { .. }), "{other:?}");
}

#[test]
fn paused_container_is_recognized() {
    let error = |message: &str| BollardError::DockerResponseServerError { status_code: 500, message: message.into() };
    let paused = "container 3f2a91bc77d0 is running or paused, refusing to clean up: container state improper";
    assert!(podman::is_paused(&error(paused)) && !podman::is_paused(&error("device busy")));
}

/// Errors of different engine versions for a network that cannot be removed.
#[test]
fn active_endpoints_are_a_separate_error() {
    let table = [
        // 20.10.24
        (403, "error while removing network: network shop id 3f2a91bc77d0 has active endpoints", true),
        // with the endpoints listed
        (
            403,
            r#"error while removing network: network shop has active endpoints (name:"api" id:"3f2a91bc77d0")"#,
            true,
        ),
        (403, "bridge is a pre-defined network and cannot be removed", false),
        (409, "network shop has active endpoints", false),
        // Podman 5.8
        (500, r#""shop" has associated containers with it: network is being used"#, true),
        (500, "device busy", false),
    ];
    for (status_code, message, expected) in table {
        let error = BollardError::DockerResponseServerError { status_code, message: message.into() };
        let error = fault(&Endpoint::Unix("/run/docker.sock".into()), "remove network shop", error);
        assert_eq!(matches!(error, EngineError::ActiveEndpoints { .. }), expected, "{error:?}");
        assert_eq!(error.to_string(), format!("cannot remove network shop: {message}"));
    }
}

/// Docker 28.5: an update while the container exits. What it needs is decided after another list.
#[test]
fn update_of_a_stopped_container_is_a_conflict() {
    let message = "Cannot update container 3f2a91bc77d0: cannot update a stopped container".to_owned();
    let error = BollardError::DockerResponseServerError { status_code: 500, message };
    let error = fault(&Endpoint::Unix("/run/docker.sock".into()), "update container 3f2a91bc77d0", error);
    assert!(matches!(error, EngineError::Conflict { .. }), "{error:?}");
}

#[test]
fn connection_errors_are_readable() {
    let unix = Endpoint::Unix("/run/docker.sock".into());
    let message_of = |kind: io::ErrorKind| match fault(&unix, "start", BollardError::from(io::Error::from(kind))) {
        EngineError::Unreachable { endpoint, reason } => {
            assert_eq!(endpoint, "unix:///run/docker.sock");
            reason
        }
        error => panic!("{error:?}"),
    };
    assert_eq!(message_of(io::ErrorKind::PermissionDenied), "permission denied (is your user in the group docker?)");
    assert_eq!(message_of(io::ErrorKind::NotFound), "no such socket");
    assert_eq!(message_of(io::ErrorKind::BrokenPipe), "the engine closed the connection");
}

/// Starts an engine that responds to each request with the next of these bodies. The first one names the API version, which
/// is in the head of each response. Returns the requests.
async fn fake(bodies: &'static [&'static str]) -> (tempfile::TempDir, tokio::task::JoinHandle<Vec<String>>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let directory = tempfile::tempdir().unwrap();
    let listener = tokio::net::UnixListener::bind(directory.path().join("docker.sock")).unwrap();
    let about: serde_json::Value = serde_json::from_str(bodies[0]).unwrap();
    let api = about["ApiVersion"].as_str().unwrap().to_owned();
    let served = tokio::spawn(async move {
        let mut heads = Vec::new();
        for body in bodies {
            let (mut stream, head) = loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n")
                    && let Ok(byte) = stream.read_u8().await
                {
                    head.push(byte);
                }
                // Who listens is found out by a connection without a request.
                if !head.is_empty() {
                    break (stream, head);
                }
            };
            let mut text = String::from_utf8(head).unwrap();
            let length =
                text.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let mut content = vec![0; length.unwrap_or(0)];
            stream.read_exact(&mut content).await.unwrap();
            text.push_str(&String::from_utf8_lossy(&content));
            heads.push(text);
            let length = body.len();
            let head = format!("Api-Version: {api}\r\nContent-Length: {length}\r\nConnection: close");
            let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        heads
    });
    (directory, served)
}

fn target_in(directory: &tempfile::TempDir) -> EngineConfig {
    let socket = directory.path().join("docker.sock");
    EngineConfig {
        endpoint: Endpoint::Unix(socket),
        origin: String::new(),
        config_dir: Some(directory.path().to_owned()),
        buildkit: None,
    }
}

const ABOUT: &str = r#"{"ServerVersion": "20.10.24", "ApiVersion": "1.41"}"#;

#[tokio::test]
async fn pull_sends_credentials_and_reports_progress() {
    const PULL: &str = concat!(
        r#"{"status": "Pulling from shop/api", "id": "1"}"#,
        "\n",
        r#"{"status": "Pulling fs layer", "progressDetail": {}, "id": "aa"}"#,
        "\n",
        r#"{"status": "Downloading", "progressDetail": {"current": 10, "total": 20}, "id": "aa"}"#,
        "\n",
        r#"{"status": "Pull complete", "progressDetail": {}, "id": "aa"}"#,
        "\n"
    );
    let (directory, served) = fake(&[ABOUT, PULL]).await;
    // The encoding of ann:??>>~~ differs between standard and URL-safe base64.
    let config = r#"{"auths": {"reg:5000": {"auth": "YW5uOj8/Pj5+fg=="}}}"#;
    std::fs::write(directory.path().join("config.json"), config).unwrap();
    let engine = Docker::connect(&target_in(&directory)).await.unwrap();
    let seen = Mutex::new(Vec::new());
    engine.pull("reg:5000/shop/api", None, &|progress| seen.lock().unwrap().push(progress)).await.unwrap();
    assert_eq!(seen.into_inner().unwrap().last(), Some(&PullProgress { done: 1, total: 1, bytes: 10 }));
    let head = served.await.unwrap().remove(1);
    assert!(head.starts_with("POST /v1.41/images/create?fromImage=reg%3A5000%2Fshop%2Fapi&tag=latest"), "{head}");
    let auth = head.lines().find_map(|line| line.strip_prefix("x-registry-auth: ")).unwrap();
    assert!(!auth.contains(['+', '/']) && auth.contains(['-', '_']), "{auth}");
}

#[tokio::test]
async fn pull_failing_midway_reports_its_cause() {
    const PULL: &str = concat!(
        r#"{"status": "Pulling from library/nope", "id": "1"}"#,
        "\n",
        r#"{"errorDetail": {"message": "manifest for nope:1 not found"}, "error": "manifest for nope:1 not found"}"#,
        "\n"
    );
    let (directory, _served) = fake(&[ABOUT, PULL]).await;
    let engine = Docker::connect(&target_in(&directory)).await.unwrap();
    let error = engine.pull("nope:1", None, &|_| {}).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot pull nope:1: manifest for nope:1 not found");
    assert!(matches!(error, EngineError::Refused { .. }));
}

/// Creates a directory with a Dockerfile, and a request to build it.
fn to_build(dockerfile: &str) -> (tempfile::TempDir, BuildRequest) {
    let context = tempfile::tempdir().unwrap();
    std::fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    let paths = build::tree::ContextPaths::new(context.path(), ".", &Default::default());
    let tree = build::tree::look(&paths, &Default::default()).0.unwrap();
    let args = BTreeMap::from([("A".to_owned(), "b&c".to_owned())]);
    let build = crate::desired::Build { tree, target: Some("x".into()), args, labels: BTreeMap::new(), platform: None };
    let labels = BTreeMap::from([("l".to_owned(), "m".to_owned())]);
    (context, BuildRequest { image: "shop-api:1".into(), build, labels })
}

#[tokio::test]
async fn classic_builder_gets_registry_credentials() {
    const BUILD: &str = "{\"stream\": \"Step 1/1 : FROM reg:5000/base\\n\"}\r\n{\"aux\": {\"ID\": \"sha256:1\"}}\r\n";
    let (directory, served) = fake(&[ABOUT, "OK", BUILD]).await;
    let config = r#"{"auths": {"reg:5000": {"auth": "YW5uOj8/Pj5+fg=="}, "other": {"auth": "YW5uOj8/Pj5+fg=="}}}"#;
    std::fs::write(directory.path().join("config.json"), config).unwrap();
    let engine = Docker::connect(&target_in(&directory)).await.unwrap();
    let (_context, request) = to_build("FROM reg:5000/base\n");
    let seen = Mutex::new(Vec::new());
    let progress = |news| {
        if let BuildProgress::Step(line) = news {
            seen.lock().unwrap().push(line);
        }
    };
    engine.build(&request, &progress).await.unwrap();
    assert_eq!(seen.into_inner().unwrap(), ["Step 1/1 : FROM reg:5000/base"]);
    let heads = served.await.unwrap();
    assert!(heads[1].starts_with("GET /v1.41/_ping"), "{}", heads[1]);
    let expected = "POST /v1.41/build?t=shop-api%3A1&dockerfile=Dockerfile&version=1&rm=1&forcerm=1&target=x\
                    &buildargs=%7B%22A%22%3A%22b%26c%22%7D&labels=%7B%22l%22%3A%22m%22%7D HTTP/1.1";
    assert_eq!(heads[2].lines().next(), Some(expected));
    let config = heads[2].lines().find_map(|line| line.strip_prefix("x-registry-config: ")).unwrap();
    let config = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE, config).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["reg:5000"]["username"], "ann");
    assert_eq!(config.as_object().unwrap().len(), 1, "only the needed credentials are sent");
}

#[tokio::test]
async fn build_with_changed_files_is_aborted() {
    let (directory, _served) = fake(&[ABOUT, "OK", ""]).await;
    let engine = Docker::connect(&target_in(&directory)).await.unwrap();
    let (context, request) = to_build("FROM debian\n");
    std::fs::write(context.path().join("new"), "new").unwrap();
    let error = engine.build(&request, &|_| {}).await.unwrap_err();
    let expected = "cannot build shop-api:1: its sources have changed since they were read; run it again";
    assert_eq!(error.to_string(), expected);
    assert!(matches!(error, EngineError::Conflict { .. }));
}

#[tokio::test]
async fn start_interval_is_sent_to_engines_that_know_it() {
    const NEWER: &str = r#"{"ServerVersion": "25.0.0", "ApiVersion": "1.44"}"#;
    let healthcheck = crate::spec::model::Healthcheck {
        test: None,
        interval: None,
        timeout: None,
        retries: None,
        start_period: Some("10s".parse().unwrap()),
        start_interval: Some("100ms".parse().unwrap()),
        disable: false,
    };
    let spec = ContainerSpec {
        config: crate::desired::Config { healthcheck: Some(healthcheck), ..Default::default() },
        ..ContainerSpec::default()
    };
    for (bodies, sent) in
        [(&[ABOUT, "{\"Id\": \"1\", \"Warnings\": []}"], false), (&[NEWER, "{\"Id\": \"1\", \"Warnings\": []}"], true)]
    {
        let (directory, served) = fake(bodies).await;
        let engine = Docker::connect(&target_in(&directory)).await.unwrap();
        engine.apply(&Mutation::Create(Box::new(spec.clone()))).await.unwrap();
        let request = served.await.unwrap().remove(1);
        assert!(request.contains("StartPeriod"), "{request}");
        assert_eq!(request.contains("StartInterval"), sent, "{request}");
    }
}

#[tokio::test]
async fn too_old_engine_is_rejected() {
    let (directory, _served) = fake(&[r#"{"ServerVersion": "18.09.1", "ApiVersion": "1.39"}"#]).await;
    let error = Docker::connect(&target_in(&directory)).await.err().unwrap().to_string();
    assert!(error.ends_with("Docker 18.09.1 speaks API 1.39; Docker 20.10 (API 1.41) or later is needed"), "{error}");
}
