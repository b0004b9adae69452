use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a test waits for anything. The test cluster forms a group in 3 s, a real broker is back within 5 s of a
/// crash; the rest is for a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Returns as soon as `condition` holds; panics with `what` when it does not within `deadline`.
pub(crate) fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < deadline, "not within {deadline:?}: {what}");
        sleep(Duration::from_millis(10));
    }
}

/// An address at which nobody listens, never the same twice. Below the ports that the system gives to outgoing
/// connections, one of which could take it in the meantime.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test runs at the same time begin at different places.
    let first = std::process::id().wrapping_mul(97);
    loop {
        let port = 20_000 + (first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed))) % 12_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).expect("below 32,000")));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
