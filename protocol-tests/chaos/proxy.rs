//! A proxy before the target, which loses the answers to requests, or delivers requests late.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::kafka::Cluster;
use crate::{by_magnitude, pause};

/// Produce, InitProducerId, AddPartitionsToTxn, EndTxn: what changes something, of data or of a fence.
const STRUCK: [u16; 4] = [0, 22, 24, 26];

/// One request in so many is struck, by chance.
const ONE_IN: usize = 8;

pub(crate) const LATEST: Duration = Duration::from_secs(4);

/// What happens to a request that is struck. To the client both look alike: its connection ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Harm {
    /// It arrives, and its answer does not.
    AnswerLost,
    /// It arrives a while later, when the client has come back and asked.
    Late,
}

/// Stands before a broker. Frames from clients pass; those that are struck are the last ones of their connections.
pub(crate) struct Proxy {
    port: u16,
    harm: Harm,
    most: usize,
    struck: Arc<AtomicUsize>,
}

impl Cluster for Proxy {
    fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Proxy {
    /// Listens; until it is told its broker, connections wait. Strikes no more often than `most`.
    pub(crate) fn listen(harm: Harm, most: usize) -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let proxy = Self {
            port: listener.local_addr().expect("a bound address").port(),
            harm,
            most,
            struck: Arc::default(),
        };
        (proxy, listener)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn struck(&self) -> usize {
        self.struck.load(Ordering::Relaxed)
    }

    pub(crate) fn serve(&self, listener: TcpListener, broker: u16) {
        let (harm, most, struck) = (self.harm, self.most, Arc::clone(&self.struck));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let struck = Arc::clone(&struck);
                let strikes = move |frame: &[u8]| {
                    let api = u16::from_be_bytes([frame[0], frame[1]]);
                    let one_more = |count| (count < most).then_some(count + 1);
                    STRUCK.contains(&api)
                        && fastrand::usize(..ONE_IN) == 0
                        && struck
                            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
                            .is_ok()
                };
                thread::spawn(move || {
                    // Either side may go away at any time.
                    if let Ok(broker) = TcpStream::connect(("127.0.0.1", broker)) {
                        let _ = pass(client, broker, harm, strikes);
                    }
                });
            }
        });
    }
}

fn pass(
    mut client: TcpStream,
    mut broker: TcpStream,
    harm: Harm,
    strikes: impl Fn(&[u8]) -> bool,
) -> std::io::Result<()> {
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
        let is_struck = strikes(&frame);
        if is_struck {
            // Before the request is passed on, so that the answer can't be faster.
            client.shutdown(Shutdown::Both)?;
            if let Harm::Late = harm {
                pause(by_magnitude(LATEST));
            }
        }
        broker.write_all(&length)?;
        broker.write_all(&frame)?;
        if is_struck {
            break;
        }
    }
    // The broker reads all that it was sent, though nobody may wait for what it says.
    let _ = broker.shutdown(Shutdown::Write);
    let _ = answering.join();
    Ok(())
}
