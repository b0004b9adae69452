use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use portcullis_schema::Timestamp;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::files::Certificate;

/// Authorities that renew by themselves do so a month before the end; two weeks before it, something is wrong.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 86_400);
/// How often it is said.
const SAY_EVERY: Duration = Duration::from_secs(86_400);

/// Says in time that the certificate will be over.
pub(crate) struct Expiry {
    gauge: Gauge,
    holds_until: Arc<AtomicI64>,
    saying: JoinHandle<()>,
}

impl Expiry {
    /// Must be called within a runtime.
    pub(crate) fn new(certificate: &Certificate, registry: &mut Registry) -> Self {
        let gauge = Gauge::default();
        registry.register(
            "receiver_certificate_expiry_timestamp_seconds",
            "When the TLS certificate is over, in seconds since 1970",
            gauge.clone(),
        );
        let holds_until = Arc::new(AtomicI64::new(0));
        let told = Arc::clone(&holds_until);
        let saying = tokio::spawn(async move {
            loop {
                sleep(SAY_EVERY).await;
                say(Timestamp::from_micros(told.load(Ordering::Relaxed)));
            }
        });
        let expiry = Self {
            gauge,
            holds_until,
            saying,
        };
        expiry.of(certificate);
        expiry
    }

    /// Another certificate is shown.
    pub(crate) fn of(&self, certificate: &Certificate) {
        let holds_until = certificate.holds_until();
        self.gauge.set(holds_until.as_seconds());
        self.holds_until.store(holds_until.as_micros(), Ordering::Relaxed);
        let file = certificate.chain_path().display();
        info!(%file, %holds_until, "certificate is in force");
        say(holds_until);
    }
}

impl Drop for Expiry {
    fn drop(&mut self) {
        self.saying.abort();
    }
}

fn say(holds_until: Timestamp) {
    let now = Timestamp::now();
    if holds_until <= now {
        error!(
            %holds_until,
            "the certificate is over: Chat does not call, and lets every operation through; renew it, the receiver takes the new file by itself"
        );
    } else if holds_until <= now.after(WARN_BEFORE) {
        warn!(%holds_until, "the certificate is over soon: renew it, the receiver takes the new file by itself");
    }
}
