//! A front before the test cluster, through which every client comes and which can be deaf to some of them.

use std::collections::HashMap;
use std::io::{Read, Result, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Kafka's API keys (protocol guide).
const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const INIT_PRODUCER_ID: i16 = 22;

pub(crate) struct Front {
    port: u16,
    producers: Arc<Mutex<Producers>>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

#[derive(Default)]
struct Producers {
    known: Vec<[u8; 8]>,
    /// Nothing that these produce is answered.
    ignored: Vec<[u8; 8]>,
}

impl Front {
    /// Before the broker at `address`, which tells its clients that address.
    pub(crate) fn before(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let producers = Arc::new(Mutex::new(Producers::default()));
        let connections: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (address, seen, made) = (address.to_owned(), Arc::clone(&producers), Arc::clone(&connections));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(broker) = TcpStream::connect(&address) else {
                    continue;
                };
                lock(&made).extend(client.try_clone());
                serve(client, broker, port, &seen);
            }
        });
        Self {
            port,
            producers,
            connections,
        }
    }

    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Whoever has produced so far is heard no more, whoever comes anew is. All connections are cut, so that everybody
    /// notices something.
    pub(crate) fn ignore_those_who_are_there(&self) {
        let mut producers = lock(&self.producers);
        producers.ignored = producers.known.clone();
        for connection in lock(&self.connections).drain(..) {
            let _ = connection.shutdown(Shutdown::Both); // it may have ended before
        }
    }
}

/// Passes on what both say, whole messages at a time, until one of them ends.
fn serve(client: TcpStream, broker: TcpStream, port: u16, producers: &Arc<Mutex<Producers>>) {
    let asked: Arc<Mutex<HashMap<[u8; 4], i16>>> = Arc::default();
    let (mut from_client, mut to_broker) = (client.try_clone().expect("cloned"), broker.try_clone().expect("cloned"));
    let (asking, seen) = (Arc::clone(&asked), Arc::clone(producers));
    thread::spawn(move || {
        while let Ok(request) = message(&mut from_client) {
            let (api, correlation) = (i16::from_be_bytes([request[0], request[1]]), four(&request[4..]));
            if api == PRODUCE && lock(&seen).ignored.iter().any(|producer| holds(&request, producer)) {
                continue;
            }
            lock(&asking).insert(correlation, api);
            if pass(&mut to_broker, &request).is_err() {
                break;
            }
        }
        let _ = to_broker.shutdown(Shutdown::Both); // the other may have ended first
    });
    let (mut from_broker, mut to_client, seen) = (broker, client, Arc::clone(producers));
    thread::spawn(move || {
        let told = from_broker.peer_addr().map_or(0, |address| address.port());
        while let Ok(mut answer) = message(&mut from_broker) {
            match lock(&asked).remove(&four(&answer)) {
                Some(METADATA) => put(&mut answer, &entrance(told), &entrance(port)),
                // Behind the header's 5 bytes, the throttle time and the error.
                Some(INIT_PRODUCER_ID) => lock(&seen).known.extend(answer[11..].first_chunk::<8>()),
                _ => {}
            }
            if pass(&mut to_client, &answer).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both); // the other may have ended first
    });
}

/// A broker's address as metadata tell it.
fn entrance(port: u16) -> Vec<u8> {
    [&b"127.0.0.1"[..], &u32::from(port).to_be_bytes()].concat()
}

fn put(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    for at in 0..bytes.len().saturating_sub(old.len()) {
        if bytes[at..].starts_with(old) {
            bytes[at..at + new.len()].copy_from_slice(new);
        }
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn message(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn pass(stream: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    stream.write_all(&[&length, bytes].concat())
}

fn four(bytes: &[u8]) -> [u8; 4] {
    [bytes[0], bytes[1], bytes[2], bytes[3]]
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
