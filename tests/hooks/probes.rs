//! HTTP pings against servers on this host, with and without TLS.

use std::sync::Arc;

use drillmaster::control::execute::probe::probe_once;
use drillmaster::plan::step::{ContainerRef, Probe};
use drillmaster_sim::Sim;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::stage::Stage;

/// Self-signed, for `localhost`.
const CERTIFICATE: &[u8] = include_bytes!("tls/certificate.pem");
const KEY: &[u8] = include_bytes!("tls/key.pem");

fn acceptor() -> TlsAcceptor {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let certificates = vec![CertificateDer::from_pem_slice(CERTIFICATE).unwrap()];
    let config = builder.with_single_cert(certificates, PrivateKeyDer::from_pem_slice(KEY).unwrap()).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, response: &str, requests: &UnboundedSender<String>) {
    let mut received = Vec::new();
    while !received.ends_with(b"\r\n\r\n") {
        received.push(stream.read_u8().await.unwrap());
    }
    let _ = requests.send(String::from_utf8(received).unwrap().to_lowercase());
    let _ = stream.write_all(response.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Starts a server that sends this response to each request. Returns its port, and the requests that it receives.
async fn server(acceptor: Option<TlsAcceptor>, response: String) -> (u16, UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            match &acceptor {
                None => answer(stream, &response, &sender).await,
                Some(acceptor) => {
                    // A client may reject the certificate.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        answer(stream, &response, &sender).await;
                    }
                }
            }
        }
    });
    (port, receiver)
}

fn response(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Sends the HTTP ping of a service whose container has the address of this host.
async fn ping(http: serde_json::Value) -> Result<(), String> {
    let probe = Probe {
        service: "api".into(),
        replica: None,
        container: ContainerRef { id: "0123".into(), name: "shop-api".into() },
        address: Some([127, 0, 0, 1].into()),
        ping: serde_json::from_value(json!({"http": http})).unwrap(),
        secret: false,
    };
    probe_once(&Sim::new(), &probe, &Stage::new().surroundings).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn ping_sends_its_headers() {
    let (port, mut requests) = server(None, response("200 OK", "")).await;
    for (check, host, further) in [
        (json!({"port": port}), format!("api:{port}"), None),
        (json!(format!("http://localhost:{port}/x")), format!("localhost:{port}"), None),
        (json!({"port": port, "headers": {"Host": "Shop.example", "X-A": 1}}), "shop.example".into(), Some("x-a: 1")),
    ] {
        ping(check).await.unwrap();
        let request = requests.recv().await.unwrap();
        let lines: Vec<&str> = request.lines().collect();
        let hosts: Vec<&&str> = lines.iter().filter(|line| line.starts_with("host:")).collect();
        assert_eq!(hosts, [&format!("host: {host}").as_str()], "{request}");
        assert!(further.is_none_or(|header| lines.contains(&header)), "{request}");
    }
}

#[tokio::test]
async fn failed_ping_shows_status_and_first_line() {
    for (body, expected) in [
        ("\n  DisallowedHost: add api to ALLOWED_HOSTS\nTraceback\n", ": DisallowedHost: add api to ALLOWED_HOSTS"),
        ("<!doctype html>\n<head><title>Blocked\nhost</title></head>", ": Blocked"),
        ("", ""),
    ] {
        let (port, _requests) = server(None, response("400 Bad Request", body)).await;
        let error = ping(json!({"port": port, "path": "/x"})).await.unwrap_err();
        assert_eq!(error, format!("GET /x returned status 400 Bad Request{expected}"));
    }
    let (port, _requests) = server(None, response("500 Internal Server Error", &"long ".repeat(100_000))).await;
    let error = ping(json!(port)).await.unwrap_err();
    assert!(error.len() < 300 && error.contains("long long"), "{error}");
    // A body that does not end is no reason to wait for it.
    let endless = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 40\r\n\r\nstarting".to_owned();
    let (port, _requests) = server(None, endless).await;
    assert_eq!(ping(json!(port)).await.unwrap_err(), "GET / returned status 503 Service Unavailable: starting");
}

#[tokio::test]
async fn https_ping_accepts_any_certificate() {
    let (port, mut requests) = server(Some(acceptor()), response("200 OK", "")).await;
    for check in [json!({"port": port, "scheme": "https"}), json!(format!("https://10.0.0.1:{port}/"))] {
        ping(check).await.unwrap();
        assert!(requests.recv().await.unwrap().starts_with("get / http/1.1"));
    }
    // A server without TLS.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(response("400 Bad Request", "").as_bytes()).await.unwrap();
    });
    let error = ping(json!({"port": plain, "scheme": "https"})).await.unwrap_err();
    assert!(error.starts_with("TLS: "), "{error}");
}

#[tokio::test]
async fn https_hook_verifies_the_certificate() {
    let (port, mut requests) = server(Some(acceptor()), response("200 OK", "")).await;
    let (_, ended) = Stage::new().run(json!({"http": format!("https://localhost:{port}/")})).await;
    let error = ended.unwrap_err().to_string();
    let expected = format!("GET https://localhost:{port}/: TLS: invalid peer certificate");
    assert!(error.starts_with(&expected), "{error}");
    assert!(requests.try_recv().is_err(), "nothing is sent to an unknown server");
}
