//! Who vouches for the certificates that checks see.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
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
    /// It refuses the authorities.
    #[error("TLS: {0}")]
    Authorities(#[from] VerifierBuilderError),
}

/// How TLS is spoken by checks, for each way to trust that a configuration has.
#[derive(Debug, Clone, Default)]
pub struct TrustStore(BTreeMap<Trust, Arc<Client>>);

/// One of these ways.
#[derive(Debug)]
pub(super) struct Client {
    config: ClientConfig,
    /// Who says whether a certificate is good; nobody where each one will do.
    verifier: Option<Arc<WebPkiServerVerifier>>,
}

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
    pub(super) fn of(&self, trust: &Trust) -> Option<Arc<Client>> {
        self.0.get(trust).cloned()
    }
}

impl Client {
    /// For one connection, and what is left to be verified of it, if anything is.
    pub(super) fn begin(&self) -> (Arc<ClientConfig>, Option<Arc<Later>>) {
        let mut config = self.config.clone();
        let later = self.verifier.as_ref().map(|verifier| {
            Arc::new(Later {
                verifier: Arc::clone(verifier),
                shown: Mutex::default(),
            })
        });
        if let Some(later) = &later {
            let verifier = Arc::clone(later);
            config.dangerous().set_certificate_verifier(verifier);
        }
        (Arc::new(config), later)
    }
}

fn client(trust: &Trust) -> Result<Client, TrustError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions()?.dangerous();
    let roots = match trust {
        Trust::Anybody => None,
        Trust::Host => Some(roots_of_host()?),
        Trust::File(file) => Some(roots_of_file(file)?),
    };
    let verifier = match roots {
        Some(roots) => {
            let provider = Arc::clone(&provider);
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
            Some(verifier.build()?)
        }
        None => None,
    };
    let asked: Arc<dyn ServerCertVerifier> = match &verifier {
        Some(verifier) => Arc::clone(verifier) as _,
        None => Arc::new(Anybody(provider)),
    };
    let mut config = builder
        .with_custom_certificate_verifier(asked)
        .with_no_client_auth();
    // Each check is to see the certificate that is there now.
    config.resumption = Resumption::disabled();
    Ok(Client { config, verifier })
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

/// Leaves a server's chain of certificates for later, but not that the server has its key: all signatures at once
/// would take too long for one turn of the loop. Nothing is said to the server before.
#[derive(Debug)]
pub(super) struct Later {
    verifier: Arc<WebPkiServerVerifier>,
    shown: Mutex<Option<Shown>>,
}

/// What a server has shown.
#[derive(Debug)]
struct Shown {
    certificate: CertificateDer<'static>,
    between: Vec<CertificateDer<'static>>,
    name: ServerName<'static>,
    status: Vec<u8>,
    at: UnixTime,
}

impl Later {
    /// Verifies what the server has shown.
    ///
    /// # Errors
    /// It is not good, or nothing.
    pub(super) fn verify(&self) -> Result<(), Error> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = shown.as_ref().ok_or(Error::NoCertificatesPresented)?;
        let Shown {
            certificate,
            between,
            name,
            status,
            at,
        } = shown;
        self.verifier
            .verify_server_cert(certificate, between, name, status, *at)?;
        Ok(())
    }
}

impl ServerCertVerifier for Later {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        status: &[u8],
        at: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let between = between.iter().map(|other| other.clone().into_owned());
        let shown = Shown {
            certificate: certificate.clone().into_owned(),
            between: between.collect(),
            name: name.to_owned(),
            status: status.to_vec(),
            at,
        };
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
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
