//! Who vouches for the certificates that checks see.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::config::Config;
use crate::health::checks::{Kind, Trust};

/// Why certificates cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file of authorities is none.
    #[error("cannot read the authorities of checks, {}: {what}; write the path of a file of certificates in \
             PEM as ca_file", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The host has no authorities.
    #[error(
        "this host has no authorities that it trusts{what}; install ca-certificates, or write ca_file"
    )]
    Host {
        /// What reading them said.
        what: String,
    },
    /// The library refuses.
    #[error("TLS: {0}")]
    Tls(#[from] Error),
}

/// How TLS is spoken by checks, for each way to trust that a configuration has.
#[derive(Debug, Clone, Default)]
pub struct TrustStore(BTreeMap<Trust, Arc<ClientConfig>>);

impl TrustStore {
    /// Reads the certificates of all authorities that a configuration names.
    ///
    /// # Errors
    /// Some of them cannot be had.
    pub(in crate::io) fn read(config: &Config) -> Result<TrustStore, TrustError> {
        let mut store = TrustStore::default();
        let judges = config.services.iter();
        let judges = judges.flat_map(|service| service.checks.all());
        for check in judges.flat_map(|judges| &judges.checks) {
            if let Kind::Http(http) = &*check.kind
                && let Some(tls) = &http.tls
                && !store.0.contains_key(&tls.trust)
            {
                let client = client(&tls.trust)?;
                store.0.insert(tls.trust.clone(), Arc::new(client));
            }
        }
        Ok(store)
    }

    /// How TLS is spoken.
    pub(super) fn of(&self, trust: &Trust) -> Option<Arc<ClientConfig>> {
        self.0.get(trust).cloned()
    }
}

fn client(trust: &Trust) -> Result<ClientConfig, TrustError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions()?;
    let mut client = match trust {
        Trust::Anybody => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth(),
        Trust::Host => builder
            .with_root_certificates(roots_of_host()?)
            .with_no_client_auth(),
        Trust::File(file) => builder
            .with_root_certificates(roots_of_file(file)?)
            .with_no_client_auth(),
    };
    // Each check is to see the certificate that is there now.
    client.resumption = Resumption::disabled();
    Ok(client)
}

fn roots_of_file(file: &PathBuf) -> Result<RootCertStore, TrustError> {
    let fault = |what: String| TrustError::File {
        file: file.clone(),
        what,
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file);
    for certificate in certificates.map_err(|error| fault(error.to_string()))? {
        let certificate = certificate.map_err(|error| fault(error.to_string()))?;
        let added = roots.add(certificate);
        added.map_err(|error| fault(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fault("there is no certificate in it".to_owned()));
    }
    Ok(roots)
}

fn roots_of_host() -> Result<RootCertStore, TrustError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let errors = found.errors.first();
        let what = errors.map_or_else(String::new, |error| format!(" ({error})"));
        return Err(TrustError::Host { what });
    }
    Ok(roots)
}

/// Any certificate will do, as in keepalived, also one that is too old or too broken to be read; so there is no
/// key either that a signature could be held against.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
