use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_schema::Timestamp;
use portcullis_schema::settings::Section;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_cert::der::Decode;
use x509_cert::time::{Time, Validity};

/// A chain is a few KiB; a larger file is something else.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A certificate chain and its key, as `receiver.tls` names them and as the files held them when it was read.
#[derive(Clone)]
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    /// What both files held: a renewed certificate is another configuration.
    contents: [Vec<u8>; 2],
    certified: Arc<CertifiedKey>,
    holds_from: Timestamp,
    holds_until: Timestamp,
}

/// Why no caller believes a certificate at a moment, whatever else is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untimely {
    /// Its time has not begun.
    #[error("does not hold before {0}")]
    NotYet(Timestamp),
    /// Its time has ended.
    #[error("is over since {0}")]
    Over(Timestamp),
}

/// Why a pair of files is no use.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{0}, which cannot be read: {1}")]
    Unreadable(String, std::io::Error),
    #[error("{0}, which has more than {FILE_BYTES_MAX} bytes")]
    TooLong(String),
    #[error("{0}, which is not PEM: {1}")]
    NotPem(String, pem::Error),
    #[error("{0}, which has no certificate in it")]
    NoCertificate(String),
    #[error("{0}, which has no private key in it")]
    NoKey(String),
    #[error("{0}, whose first certificate cannot be read: {1}")]
    NoX509(String, x509_cert::der::Error),
    #[error("{0}, whose key is of no kind that is supported: {1}")]
    KeyKind(String, rustls::Error),
    #[error("{0}, which is not the key of the certificate in {1}")]
    Mismatch(String, String),
}

impl Certificate {
    /// From `receiver.tls`; a mistake of either file is told at its key.
    pub(crate) fn read(section: &mut Section) -> Option<Self> {
        if !section.has("tls") {
            return None;
        }
        let mut tls = section.section("tls");
        let (chain_place, key_place) = (tls.place("certificate"), tls.place("key"));
        let chain = PathBuf::from(tls.required_string("certificate"));
        let key = PathBuf::from(tls.required_string("key"));
        if chain.as_os_str().is_empty() || key.as_os_str().is_empty() {
            return None;
        }
        let certificates = match read_certificates(&chain) {
            Ok(certificates) => certificates,
            Err(unusable) => {
                let allowed = "a PEM file: the certificate, then those that lead to its authority";
                tls.mistake(chain_place, "certificate", unusable.to_string(), allowed);
                return None;
            }
        };
        match Self::of(chain, key, certificates) {
            Ok(certificate) => Some(certificate),
            Err(unusable) => {
                tls.mistake(
                    key_place,
                    "key",
                    unusable.to_string(),
                    "a PEM file: the certificate's private key",
                );
                None
            }
        }
    }

    fn of(chain: PathBuf, key: PathBuf, certificates: Certificates) -> Result<Self, Unusable> {
        let (key_bytes, told) = (contents(&key)?, told(&key));
        let private = PrivateKeyDer::from_pem_slice(&key_bytes).map_err(|error| match error {
            pem::Error::NoItemsFound => Unusable::NoKey(told.clone()),
            error => Unusable::NotPem(told.clone(), error),
        })?;
        let signing =
            ring::sign::any_supported_type(&private).map_err(|error| Unusable::KeyKind(told.clone(), error))?;
        let certified = CertifiedKey::new(certificates.chain, signing);
        if let Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) = certified.keys_match() {
            return Err(Unusable::Mismatch(told, self::told(&chain)));
        }
        Ok(Self {
            chain,
            key,
            contents: [certificates.bytes, key_bytes],
            certified: Arc::new(certified),
            holds_from: certificates.holds_from,
            holds_until: certificates.holds_until,
        })
    }

    /// Where the chain is.
    pub fn chain_path(&self) -> &Path {
        &self.chain
    }

    /// Where the key is.
    pub fn key_path(&self) -> &Path {
        &self.key
    }

    /// When it is over.
    pub fn holds_until(&self) -> Timestamp {
        self.holds_until
    }

    /// Whether callers whose clock shows `now` believe it.
    pub fn check_time(&self, now: Timestamp) -> Result<(), Untimely> {
        if now < self.holds_from {
            return Err(Untimely::NotYet(self.holds_from));
        }
        if self.holds_until <= now {
            return Err(Untimely::Over(self.holds_until));
        }
        Ok(())
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        (&self.chain, &self.key, &self.contents) == (&other.chain, &other.key, &other.contents)
    }
}

impl Eq for Certificate {}

/// Shows where, never what.
impl fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chain, holds_until, .. } = self;
        write!(formatter, "{} until {holds_until}", chain.display())
    }
}

struct Certificates {
    bytes: Vec<u8>,
    chain: Vec<CertificateDer<'static>>,
    holds_from: Timestamp,
    holds_until: Timestamp,
}

fn read_certificates(path: &Path) -> Result<Certificates, Unusable> {
    let (bytes, told) = (contents(path)?, told(path));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|error| Unusable::NotPem(told.clone(), error))?;
    let Some(first) = chain.first() else {
        return Err(Unusable::NoCertificate(told));
    };
    let first = x509_cert::Certificate::from_der(first).map_err(|error| Unusable::NoX509(told, error))?;
    // Of the first alone: an authority may send one that is over behind it, for clients that look at nothing else.
    let Validity { not_before, not_after } = first.tbs_certificate.validity;
    Ok(Certificates {
        bytes,
        chain,
        holds_from: timestamp(not_before),
        holds_until: timestamp(not_after),
    })
}

fn timestamp(time: Time) -> Timestamp {
    Timestamp::from_micros(i64::try_from(time.to_unix_duration().as_micros()).unwrap_or(i64::MAX))
}

fn contents(path: &Path) -> Result<Vec<u8>, Unusable> {
    let unreadable = |error| Unusable::Unreadable(told(path), error);
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(Unusable::TooLong(told(path)));
    }
    std::fs::read(path).map_err(unreadable)
}

fn told(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

#[cfg(test)]
mod tests {
    use portcullis_schema::settings::Document;
    use rcgen::{CertificateParams, KeyPair};

    use super::Certificate;

    /// The mistakes of a configuration whose files hold this.
    fn mistakes(certificate: Option<&str>, key: &str) -> Vec<(String, String)> {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| folder.path().join(name).display().to_string();
        if let Some(certificate) = certificate {
            std::fs::write(path("c.pem"), certificate).expect("written");
        }
        std::fs::write(path("k.pem"), key).expect("written");
        let text = format!(
            "tls = {{ certificate = '{}', key = '{}' }}",
            path("c.pem"),
            path("k.pem")
        );
        let mut document = Document::parse("p.toml", &text);
        let read = Certificate::read(&mut document.root());
        match document.finish(()) {
            Ok(()) => {
                let read = read.expect("a certificate");
                assert!(!format!("{read:?}").contains("PRIVATE"));
                Vec::new()
            }
            Err(told) => told
                .mistakes
                .into_iter()
                .map(|mistake| (mistake.key, mistake.found))
                .collect(),
        }
    }

    fn pair() -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["chat.example".to_owned()]).expect("names");
        (
            params.self_signed(&key).expect("a certificate").pem(),
            key.serialize_pem(),
        )
    }

    #[test]
    fn each_mistake_in_the_files_is_told_at_its_key() {
        let ((certificate, key), (_, other_key)) = (pair(), pair());
        assert_eq!(mistakes(Some(&certificate), &key), []);
        let torn = &certificate[..certificate.len() / 2];
        let no_x509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (certificate, key, at, told) in [
            (None, &key, "tls.certificate", "cannot be read"),
            (Some(""), &key, "tls.certificate", "has no certificate in it"),
            (Some(key.as_str()), &key, "tls.certificate", "has no certificate in it"),
            (Some(torn), &key, "tls.certificate", "not PEM"),
            (Some(no_x509), &key, "tls.certificate", "cannot be read"),
            (
                Some(certificate.as_str()),
                &String::new(),
                "tls.key",
                "has no private key in it",
            ),
            (
                Some(certificate.as_str()),
                &other_key,
                "tls.key",
                "not the key of the certificate",
            ),
        ] {
            let mistakes = mistakes(certificate, key);
            assert_eq!(mistakes.len(), 1, "{mistakes:?}");
            assert_eq!(mistakes[0].0, at);
            assert!(mistakes[0].1.contains(told), "{mistakes:?}");
        }
    }
}
