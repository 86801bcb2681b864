//! TLS connections to an engine: certificates, keys, and errors that name their files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::io_message;

/// Names of the files in `DOCKER_CERT_PATH`, as Docker defines them.
const CA: &str = "ca.pem";
const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";

/// Files of an engine that is reached over TLS. They are read for each connection: replaced files are used at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    directory: PathBuf,
    verify: bool,
}

impl Tls {
    /// TLS with the files in a directory; `verify`: the engine's certificate is verified.
    pub fn new(directory: PathBuf, verify: bool) -> Tls {
        Tls { directory, verify }
    }

    /// File with the certificates of the authorities that may sign the engine's certificate. Without it, those of the
    /// system may.
    pub fn ca(&self) -> PathBuf {
        self.directory.join(CA)
    }

    /// Returns true if any of the files exists.
    pub fn has_files(&self) -> bool {
        [CA, CERTIFICATE, KEY].iter().any(|name| self.directory.join(name).exists())
    }

    /// Connects to `host:port`.
    pub(super) async fn connect(&self, address: &str) -> io::Result<TlsStream<TcpStream>> {
        let tls = self.clone();
        let config = tokio::task::spawn_blocking(move || tls.config()).await.map_err(io::Error::other)??;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let host = host_of(address);
        let name = match ServerName::try_from(host.to_owned()) {
            Ok(name) => name,
            Err(_) => return Err(io::Error::other(format!("{host:?} is not a valid host name"))),
        };
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    fn config(&self) -> io::Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let builder = match self.verify {
            true => builder.with_root_certificates(self.authorities()?),
            false => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
        };
        match self.client()? {
            None => Ok(builder.with_no_client_auth()),
            Some((certificates, key)) => builder.with_client_auth_cert(certificates, key).map_err(|error| {
                let (certificate, key) = (self.directory.join(CERTIFICATE), self.directory.join(KEY));
                io::Error::other(match error {
                    Error::InconsistentKeys(_) => {
                        format!("{} is not the key of {}", key.display(), certificate.display())
                    }
                    error => format!("cannot use {} with {}: {error}", certificate.display(), key.display()),
                })
            }),
        }
    }

    fn authorities(&self) -> io::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let path = self.ca();
        if !path.exists() {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return Ok(roots);
        }
        for certificate in certificates(&path)? {
            roots.add(certificate).map_err(|error| unusable(&path, &error.to_string()))?;
        }
        Ok(roots)
    }

    /// The client certificate and its key, if there are files of them.
    fn client(&self) -> io::Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>> {
        let (certificate, key) = (self.directory.join(CERTIFICATE), self.directory.join(KEY));
        if !certificate.exists() && !key.exists() {
            return Ok(None);
        }
        let certificates = certificates(&certificate)?;
        let pem = read(&key)?;
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
            PemError::NoItemsFound => unusable(&key, "no private key without a passphrase in it"),
            error => unusable(&key, &error.to_string()),
        })?;
        Ok(Some((certificates, key)))
    }

    /// Explains an error of a connection to `host:port`.
    pub(super) fn explain(&self, address: &str, error: &Error) -> String {
        match error {
            Error::InvalidCertificate(error) => self.explain_certificate(host_of(address), error),
            Error::AlertReceived(alert) if self.directory.join(CERTIFICATE).exists() => {
                let certificate = self.directory.join(CERTIFICATE);
                format!("the engine rejected the client certificate {} ({alert:?})", certificate.display())
            }
            Error::AlertReceived(alert) => format!(
                "the engine requires a client certificate ({alert:?}), and {} has no {CERTIFICATE} and {KEY}",
                self.directory.display()
            ),
            Error::InvalidMessage(_) => "the engine does not use TLS on this port".into(),
            error => format!("TLS: {error}"),
        }
    }

    fn explain_certificate(&self, host: &str, error: &CertificateError) -> String {
        let ca = self.ca();
        match error {
            CertificateError::UnknownIssuer if ca.exists() => {
                format!("the engine's certificate is not signed by an authority in {}", ca.display())
            }
            CertificateError::UnknownIssuer => format!(
                "the engine's certificate is not signed by an authority of this system, and there is no {}",
                ca.display()
            ),
            CertificateError::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
                // `DnsName("engine")`
                let names: Vec<&str> =
                    presented.iter().map(|name| name.split('"').nth(1).unwrap_or(name.as_str())).collect();
                format!("the engine's certificate is not for {host}, but for {}", names.join(", "))
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the engine's certificate is not for {host}")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the engine's certificate has expired".into()
            }
            error if format!("{error:?}").contains("CaUsedAsEndEntity") => {
                "the engine's certificate is that of an authority; use it to sign another one for the engine".into()
            }
            error => format!("the engine's certificate is not valid: {error}"),
        }
    }
}

/// The host in `host:port`.
pub(super) fn host_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']'])
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|error| io::Error::other(format!("cannot read {}: {}", path.display(), io_message(&error))))
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(unusable(path, "no certificate in it")),
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(path, &error.to_string())),
    }
}

fn unusable(path: &Path, reason: &str) -> io::Error {
    io::Error::other(format!("cannot use {}: {reason}", path.display()))
}

/// Accepts every certificate.
#[derive(Debug)]
pub struct AnyCertificate(pub Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
