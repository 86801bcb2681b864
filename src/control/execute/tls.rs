//! TLS for requests of probes, hooks and functions.

use std::io;
use std::sync::{Arc, OnceLock};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore};

use crate::control::error::HttpError;
use crate::engine::tls::AnyCertificate;

/// Check of the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Any server, as the kubelet's probes: the connection is to the container itself.
    Nothing,
    /// The certificate must be for this host and be trusted by the system.
    Certificate,
}

/// Starts TLS on a connection.
///
/// # Errors
///
/// If the handshake fails.
pub async fn start(stream: TcpStream, host: &str, verify: Verify) -> Result<TlsStream<TcpStream>, HttpError> {
    let failed = |error: String| HttpError::Failed(format!("TLS: {error}"));
    let config = config(verify).await.map_err(|error| failed(error.to_string()))?;
    let address = stream.peer_addr().map_err(|error| failed(error.to_string()))?.ip();
    let name = match ServerName::try_from(host.to_owned()) {
        Ok(name) => name,
        Err(_) if verify == Verify::Nothing => ServerName::IpAddress(address.into()),
        Err(_) => return Err(failed("the host is not a valid DNS name or address".into())),
    };
    TlsConnector::from(config).connect(name, stream).await.map_err(|error| failed(error.to_string()))
}

async fn config(verify: Verify) -> io::Result<Arc<ClientConfig>> {
    static UNVERIFIED: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    static VERIFIED: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let cell = match verify {
        Verify::Nothing => &UNVERIFIED,
        Verify::Certificate => &VERIFIED,
    };
    if let Some(config) = cell.get() {
        return Ok(Arc::clone(config));
    }
    // Reads the certificates of the system.
    let created = tokio::task::spawn_blocking(move || create_config(verify)).await.map_err(io::Error::other)?;
    let created = Arc::new(created.map_err(io::Error::other)?);
    Ok(Arc::clone(cell.get_or_init(|| created)))
}

fn create_config(verify: Verify) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    Ok(match verify {
        Verify::Nothing => {
            let verifier = Arc::new(AnyCertificate(provider));
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
        Verify::Certificate => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    })
}
