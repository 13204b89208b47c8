//! Connections to the target are cut after a produce request was passed on and before its answer is.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::data::{Age, Data, report};
use crate::kafka::{Cluster, KafkaCluster, Version, shared};
use crate::rounds;

const CUTS: usize = 50;

/// One produce request in so many is cut off, by chance.
const ONE_IN: usize = 8;

const PRODUCE: [u8; 2] = [0, 0];

/// Stands before a broker. Frames from clients pass; of those that are produce requests some are the last of their
/// connection.
struct Proxy {
    port: u16,
    cuts: Arc<AtomicUsize>,
}

impl Cluster for Proxy {
    fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Proxy {
    /// Listens; until it knows its broker, connections wait.
    fn listen() -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let cuts = Arc::new(AtomicUsize::new(0));
        (Self { port, cuts }, listener)
    }

    fn serve(&self, listener: TcpListener, broker: u16) {
        let cuts = Arc::clone(&self.cuts);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let cuts = Arc::clone(&cuts);
                thread::spawn(move || {
                    // Either side may go away at any time.
                    if let Ok(broker) = TcpStream::connect(("127.0.0.1", broker)) {
                        let _ = pass(client, broker, &cuts);
                    }
                });
            }
        });
    }
}

fn pass(mut client: TcpStream, mut broker: TcpStream, cuts: &AtomicUsize) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let (mut answers, mut back) = (broker.try_clone()?, client.try_clone()?);
    let answering = thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let mut frame = Vec::new();
    loop {
        let mut length = [0; 4];
        if client.read_exact(&mut length).is_err() {
            break;
        }
        frame.resize(u32::from_be_bytes(length) as usize, 0);
        client.read_exact(&mut frame)?;
        let is_cut = frame[..2] == PRODUCE
            && fastrand::usize(..ONE_IN) == 0
            && cuts
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |cuts| {
                    (cuts < CUTS).then_some(cuts + 1)
                })
                .is_ok();
        if is_cut {
            // Before the request is passed on, so that the answer can't be faster.
            client.shutdown(Shutdown::Write)?;
        }
        broker.write_all(&length)?;
        broker.write_all(&frame)?;
        if is_cut {
            client.shutdown(Shutdown::Both)?;
            // The broker reads all of it, though nobody waits for what it says.
            broker.shutdown(Shutdown::Write)?;
            break;
        }
    }
    let _ = broker.shutdown(Shutdown::Write);
    let _ = answering.join();
    Ok(())
}

fn cut(version: Version) {
    let source = shared(match version {
        Version::V4 => Version::V3,
        _ => Version::V4,
    });
    for round in 0..rounds() {
        let (proxy, listener) = Proxy::listen();
        let target = KafkaCluster::start_behind(version, proxy.port);
        proxy.serve(listener, target.behind_proxy());
        let name = format!("cut-{}-{round}", version.release());
        let mut data = Data::write(&name, source, Age::New);

        let outcome = data.copy(source, &proxy).arg("--max-rate", "1MB").run();

        assert_eq!(
            outcome.summary().text("/guarantee"),
            "exactly-once",
            "{}",
            outcome.stderr
        );
        let cuts = proxy.cuts.load(Ordering::Relaxed);
        assert!(cuts > CUTS / 2, "{cuts} cuts are too few to tell");
        let records = data.assert_exactly_once(source, &target);
        report("cut", &target, records, &format!("{cuts} answers lost"));
    }
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_target_of_4_whose_answers_are_lost_has_everything_once() {
    cut(Version::V4);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_target_of_3_whose_answers_are_lost_has_everything_once() {
    cut(Version::V3);
}
