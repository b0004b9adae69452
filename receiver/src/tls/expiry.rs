use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use portcullis_schema::Timestamp;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::files::{Certificate, Untimely};

/// Authorities that renew by themselves do so a month before the end; two weeks before it, something is wrong.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 86_400);
/// How often it is said.
const SAY_EVERY: Duration = Duration::from_secs(86_400);

/// Says that no caller believes the certificate, and in time that none will.
pub(crate) struct Expiry {
    gauge: Gauge,
    shown: Arc<ArcSwap<Certificate>>,
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
        let shown = Arc::new(ArcSwap::from_pointee(certificate.clone()));
        let told = Arc::clone(&shown);
        let saying = tokio::spawn(async move {
            loop {
                sleep(SAY_EVERY).await;
                say(&told.load());
            }
        });
        let expiry = Self { gauge, shown, saying };
        expiry.of(certificate);
        expiry
    }

    /// Another certificate is shown.
    pub(crate) fn of(&self, certificate: &Certificate) {
        let holds_until = certificate.holds_until();
        self.gauge.set(holds_until.as_seconds());
        self.shown.store(Arc::new(certificate.clone()));
        let file = certificate.chain_path().display();
        info!(%file, %holds_until, "certificate is in force");
        say(certificate);
    }
}

impl Drop for Expiry {
    fn drop(&mut self) {
        self.saying.abort();
    }
}

fn say(certificate: &Certificate) {
    let (now, holds_until) = (Timestamp::now(), certificate.holds_until());
    match certificate.check_time(now) {
        Err(Untimely::NotYet(holds_from)) => error!(
            %holds_from,
            "the certificate does not hold yet: Chat does not call until then, and lets every operation through; give the receiver one that holds, it takes the new file by itself"
        ),
        Err(Untimely::Over(holds_until)) => error!(
            %holds_until,
            "the certificate is over: Chat does not call, and lets every operation through; renew it, the receiver takes the new file by itself"
        ),
        Ok(()) if holds_until <= now.after(WARN_BEFORE) => {
            warn!(%holds_until, "the certificate is over soon: renew it, the receiver takes the new file by itself");
        }
        Ok(()) => {}
    }
}
