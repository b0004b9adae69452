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
    free_neighbours(1)
}

/// The first of so many addresses that follow each other, none of them given twice.
pub(crate) fn free_neighbours(count: u32) -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test runs at the same time begin at different places.
    let first = std::process::id().wrapping_mul(97);
    let address = |number: u32| {
        let port = 20_000 + first.wrapping_add(number) % 12_000;
        SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).expect("below 32,000")))
    };
    loop {
        let number = NEXT.fetch_add(count, Ordering::Relaxed);
        let free = |next: u32| TcpListener::bind(address(number + next)).is_ok();
        let follow = address(number + count - 1).port() >= address(number).port();
        if follow && (0..count).all(free) {
            return address(number);
        }
    }
}
